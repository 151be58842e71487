"""BERT's configuration."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from headstock.models.config import Activation, Epsilon, ModelConfig, Probability, Size

__all__ = ["BertConfig"]


def _layers_as_numbers(pruned: Any) -> Any:
    """JSON has strings for keys only."""
    if not isinstance(pruned, dict):
        return pruned
    return {int(key) if isinstance(key, str) and key.isdecimal() else key: heads for key, heads in pruned.items()}


PrunedHeads = Annotated[
    dict[Annotated[int, Field(ge=0)], list[Annotated[int, Field(ge=0)]]], BeforeValidator(_layers_as_numbers)
]


class BertConfig(ModelConfig):
    """Sizes and constants of a BERT encoder, under transformers' field names.

    Sizes have no defaults; constants that a file may leave out have those of the original release.

    Raises:
        InvalidConfig: a field is unknown, missing, of a wrong type or value, or asks for what is not computed here
            (relative positions, decoding, cross-attention).

    Example:
        >>> BertConfig(vocab_size=100, hidden_size=8, num_hidden_layers=1, num_attention_heads=3, intermediate_size=16,
        ...            max_position_embeddings=10)
        Traceback (most recent call last):
            ...
        headstock.errors.InvalidConfig: BertConfig: hidden_size must be a multiple of num_attention_heads, got 8 and 3
    """

    # Fields of the original release that no implementation reads, and those of other tasks' heads.
    passed_over: ClassVar[frozenset[str]] = frozenset(
        {
            "directionality",
            "pooler_fc_size",
            "pooler_num_attention_heads",
            "pooler_num_fc_layers",
            "pooler_size_per_head",
            "pooler_type",
            "tie_word_embeddings",
        }
    )

    model_type: Literal["bert"] = "bert"
    vocab_size: Size
    hidden_size: Size
    num_hidden_layers: Size
    num_attention_heads: Size
    intermediate_size: Size
    max_position_embeddings: Size
    type_vocab_size: Size = 2
    hidden_act: Activation = "gelu"
    layer_norm_eps: Epsilon = 1e-12
    hidden_dropout_prob: Probability = 0.1
    attention_probs_dropout_prob: Probability = 0.1
    initializer_range: Epsilon = 0.02
    pad_token_id: Annotated[int, Field(ge=0)] | None = 0
    chunk_size_feed_forward: Annotated[int, Field(ge=0)] = 0
    pruned_heads: PrunedHeads = Field(default_factory=dict)

    position_embedding_type: Literal["absolute"] = "absolute"
    is_decoder: Literal[False] = False
    is_encoder_decoder: Literal[False] = False
    add_cross_attention: Literal[False] = False
    cross_attention_hidden_size: None = None
    tie_encoder_decoder: Literal[False] = False

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.hidden_size % self.num_attention_heads:
            got = f"{self.hidden_size} and {self.num_attention_heads}"
            raise ValueError(f"hidden_size must be a multiple of num_attention_heads, got {got}")
        if self.pad_token_id is not None and self.pad_token_id >= self.vocab_size:
            raise ValueError(f"pad_token_id must be below vocab_size {self.vocab_size}, got {self.pad_token_id}")
        for layer, heads in self.pruned_heads.items():
            self._check_pruned(layer, heads)
        return self

    def _check_pruned(self, layer: int, heads: list[int]) -> None:
        if layer >= self.num_hidden_layers:
            raise ValueError(f"pruned_heads must name layers below {self.num_hidden_layers}, got {layer}")
        if heads and max(heads) >= self.num_attention_heads:
            raise ValueError(f"pruned_heads must name heads below {self.num_attention_heads}, got {max(heads)}")
        if len(set(heads)) == self.num_attention_heads:
            raise ValueError(f"pruned_heads must leave each layer a head, got all {len(set(heads))} of layer {layer}")

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.hidden_size // self.num_attention_heads

    def heads_left(self, layer: int) -> int:
        """How many heads a layer still has."""
        return self.num_attention_heads - len(set(self.pruned_heads.get(layer, ())))
