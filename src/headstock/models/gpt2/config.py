"""GPT-2's configuration."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from headstock.models.config import Activation, Epsilon, ModelConfig, Probability, Size

__all__ = ["GPT2Config"]


class GPT2Config(ModelConfig):
    """Sizes and constants of a GPT-2 decoder, under transformers' field names.

    Sizes have no defaults; constants that a file may leave out have those of the original release.

    Raises:
        InvalidConfig: a field is unknown, missing, of a wrong type or value, or asks for what is not computed here
            (cross-attention, pruned heads).

    Example:
        >>> GPT2Config(vocab_size=50, n_positions=10, n_embd=8, n_layer=2, n_head=2, activation_function="gelu_old")
        Traceback (most recent call last):
            ...
        headstock.errors.InvalidConfig: GPT2Config.activation_function must be one of 'gelu', ..., got 'gelu_old'
    """

    # Fields that nothing reads, and those of the classification heads.
    passed_over: ClassVar[frozenset[str]] = frozenset(
        {
            "chunk_size_feed_forward",
            "is_decoder",
            "n_ctx",
            "n_special",
            "pad_token_id",
            "predict_special_tokens",
            "summary_activation",
            "summary_first_dropout",
            "summary_proj_to_labels",
            "summary_type",
            "summary_use_proj",
        }
    )

    model_type: Literal["gpt2"] = "gpt2"
    vocab_size: Size
    n_positions: Size
    n_embd: Size
    n_layer: Size
    n_head: Size
    n_inner: Size | None = None
    activation_function: Activation = "gelu_new"
    layer_norm_epsilon: Epsilon = 1e-5
    resid_pdrop: Probability = 0.1
    embd_pdrop: Probability = 0.1
    attn_pdrop: Probability = 0.1
    initializer_range: Epsilon = 0.02
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False
    tie_word_embeddings: bool = True

    add_cross_attention: Literal[False] = False
    is_encoder_decoder: Literal[False] = False
    cross_attention_hidden_size: None = None
    tie_encoder_decoder: Literal[False] = False
    pruned_heads: Annotated[dict[Any, Any], Field(max_length=0)] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd must be a multiple of n_head, got {self.n_embd} and {self.n_head}")
        return self

    @property
    def inner(self) -> int:
        """Width of the feed-forward step."""
        return 4 * self.n_embd if self.n_inner is None else self.n_inner

    def scaling(self, layer: int) -> float:
        """What a layer's scores are multiplied by."""
        scaling = (self.n_embd // self.n_head) ** -0.5 if self.scale_attn_weights else 1.0
        return scaling / (layer + 1) if self.scale_attn_by_inverse_layer_idx else scaling
