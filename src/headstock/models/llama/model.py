"""Llama and its relatives with their language-model head, built from headstock's parts."""

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Self, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from headstock.attention import AttentionInterface
from headstock.caches import Cache, GrowingCache, SlidingCache, StaticCache
from headstock.errors import InvalidConfig
from headstock.layers.norms import RMSNorm
from headstock.masks import Mask
from headstock.models.attending import masks_are_set
from headstock.models.base import Model
from headstock.models.llama.config import LlamaConfig
from headstock.models.llama.extent import Extent, check_positions
from headstock.models.llama.layers import LlamaBlock, Rotary
from headstock.models.weights import with_tied_head
from headstock.rope.embedding import RotaryEmbedding
from headstock.rope.settings import ROPE_SETTINGS
from headstock.rope.table import RopeInterface

__all__ = ["ATTENTION", "ROPE", "LlamaForCausalLM", "LlamaOutput"]

# The tables that this file's layers look their functions up in; an entry put here holds for every LlamaForCausalLM.
ATTENTION = AttentionInterface()
ROPE = RopeInterface()
# Frequencies that older files hold as buffers of each layer: constants, no weights.
_FREQUENCIES = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")


class LlamaOutput(NamedTuple):
    """What a `LlamaForCausalLM` returns.

    Attributes:
        logits: `[batch, tokens, vocabulary]`, or of the last tokens alone; row i scores the token after token i.
        hidden_states: the embeddings, each layer's output but the last, and the normalised last, when asked for.
    """

    logits: Tensor
    hidden_states: tuple[Tensor, ...] | None = None


class LlamaModel(nn.Module):
    """Embeddings, blocks and the last normalisation."""

    def __init__(self, config: LlamaConfig, attention: AttentionInterface, rope: RopeInterface) -> None:
        super().__init__()
        self.windows = config.windows
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.layers = nn.ModuleList(
            LlamaBlock(config, layer_idx=index, attention=attention) for index in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary_emb = RotaryEmbedding(config.rope, interface=rope)

    def forward(
        self,
        input_ids: Int[Tensor, "batch tokens"],
        extent: Extent,
        rope_length: int | Int[Tensor, "..."] | None,
        *,
        last: int,
        every: bool,
    ) -> tuple[Float[Tensor, "batch last hidden"], tuple[Tensor, ...] | None]:
        """The normalised output for the last tokens, and where asked for the states on the way there."""
        hidden = self.embed_tokens(input_ids)
        states = [hidden]
        turned: dict[str, Rotary] = {}
        for layer, window in zip(self.layers, self.windows, strict=True):
            set_for = ROPE_SETTINGS.of(layer)
            rotary, key = (self.rotary_emb, "") if set_for is None else (set_for.rotary, set_for.key)
            if key not in turned:
                turned[key] = rotary(states[0], extent.position_ids, seq_len=rope_length)
            hidden = layer(hidden, extent.masks[window], turned[key], extent.cache)
            if every:
                states.append(hidden)
        if not every:
            return self.norm(hidden[:, -last:] if last else hidden), None
        normed = self.norm(hidden)
        return normed[:, -last:] if last else normed, (*states[:-1], normed)


class LlamaForCausalLM(Model):
    """Llama, Mistral, Qwen 2 and 3 or SmolLM with interchangeable attention and RoPE.

    Parameter names equal those of the published weights. `attention` and `rope` are this model's overlays: an entry put
    there, or opened as a scope there, holds for it alone.

    Args:
        config: sizes and constants.
        attention: name of the attention function of all layers.

    Raises:
        UnknownName: there is no attention function of that name.

    Example:
        >>> config = LlamaConfig(vocab_size=50, hidden_size=8, intermediate_size=16, num_hidden_layers=2,
        ...                      num_attention_heads=2, max_position_embeddings=32)
        >>> model = LlamaForCausalLM(config, attention="sdpa").eval()
        >>> model(torch.tensor([[3, 1, 4]])).logits.shape
        torch.Size([1, 3, 50])
        >>> cache = model.new_cache()
        >>> with torch.no_grad():
        ...     for token in (3, 1, 4):
        ...         logits = model(torch.tensor([[token]]), cache=cache).logits
        >>> logits.shape, cache.seen
        (torch.Size([1, 1, 50]), 3)
    """

    config_class = LlamaConfig
    file_attention = ATTENTION
    config: LlamaConfig

    def __init__(self, config: LlamaConfig, *, attention: str = "auto") -> None:
        super().__init__()
        self.config = config
        self.rope = RopeInterface(parent=ROPE)
        self.heads = config.num_attention_heads
        self.model = LlamaModel(config, self.attention, self.rope)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.set_attention(attention)
        self.apply(self._initialise)
        self._tie()

    @property
    def layers(self) -> list[LlamaBlock]:
        """The blocks, first to last."""
        return cast(list[LlamaBlock], list(self.model.layers))

    def new_cache(
        self, kind: Literal["growing", "sliding", "static"] = "growing", *, max_length: int | None = None
    ) -> Cache:
        """An empty cache for this model.

        Args:
            kind: `growing` keeps every token; `static` as well, in storage for `max_length` tokens, which compiled
                decoding wants; `sliding` keeps in layers with a window no more than that.
            max_length: the most tokens; for `sliding`, of the layers without a window, None: they grow.

        Raises:
            InvalidConfig: there is no such kind, or `max_length` is missing, superfluous or no positive integer.
        """
        if kind == "sliding":
            return SlidingCache(self.model.windows, max_length=max_length)
        if kind == "static" and max_length is not None:
            return StaticCache(max_length)
        if kind == "growing" and max_length is None:
            return GrowingCache()
        raise InvalidConfig(
            "the kind of a cache must be 'growing', 'sliding', or 'static' with max_length, got "
            f"{kind!r} with max_length={max_length}; a growing cache has no max_length"
        )

    def forward(
        self,
        input_ids: Int[Tensor, "batch tokens"],
        attention_mask: Bool[Tensor, "batch keys"] | Int[Tensor, "batch keys"] | Mask | None = None,
        position_ids: Int[Tensor, "rows tokens"] | None = None,
        *,
        cache: Cache | None = None,
        logits_to_keep: int = 0,
        output_hidden_states: bool = False,
        rope_length: int | Int[Tensor, "..."] | None = None,
    ) -> LlamaOutput:
        """Score the next token after each token; a token attends to itself and those before it, in the cache too.

        Args:
            input_ids: token ids.
            attention_mask: True or 1 for a token that others may attend to, one column for each that the cache has seen
                and for each of `input_ids` (a static cache also takes one for each of its `max_length`); or a `Mask` of
                absolute indices. Joined to the causal one.
            position_ids: positions. None counts each row's tokens that the mask keeps, those in the cache included, so
                that a row padded on the left is what it is alone; without a mask of tokens it counts on from the cache.
            cache: keys and values of earlier tokens, see `new_cache`; it takes in those of `input_ids`.
            logits_to_keep: how many tokens, the last ones, to score; 0 for all.
            output_hidden_states: also return the hidden states.
            rope_length: length of the whole text, for RoPE variants whose frequencies depend on it: with a cache they
                must be the same in every step. None takes each row's largest position in this call.

        Raises:
            InvalidShape: ids, masks and positions do not fit each other or the cache.
            UnsupportedFeature: a cache in a checkpointed layer that trains, or gradients through a static cache.
        """
        if isinstance(logits_to_keep, bool) or logits_to_keep < 0:
            raise InvalidConfig(f"logits_to_keep must be a number of tokens, 0 for all, got {logits_to_keep}")
        check_positions(input_ids, position_ids)
        extent = Extent.of(
            input_ids,
            attention_mask,
            position_ids,
            cache=cache,
            windows=self.model.windows,
            heads=self.heads,
            laid_out=masks_are_set([layer.self_attn for layer in self.layers]),
        )
        hidden, states = self.model(input_ids, extent, rope_length, last=logits_to_keep, every=output_hidden_states)
        return LlamaOutput(self.lm_head(hidden), states)

    @classmethod
    def _own_names(cls, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in tensors.items() if not _FREQUENCIES.fullmatch(name)}

    @classmethod
    def _for(cls, config: Any, tensors: Mapping[str, Tensor]) -> Self:  # noqa: ARG003 -- every file has the same parts
        return cls(config)

    def _tied(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return with_tied_head(tensors, "model.embed_tokens.weight") if self.config.tie_word_embeddings else tensors

    def _tie(self) -> None:
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        frequencies, device = self.model.rotary_emb.inv_freq, self.lm_head.weight.device
        if frequencies is not None and frequencies.is_meta and device.type != "meta":
            # They are in no file: what was made without numbers gets them now.
            self.model.rotary_emb = RotaryEmbedding(self.config.rope, interface=self.rope, device=device)

    def _initialise(self, module: nn.Module) -> None:
        """Normal weights and zero biases."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            with torch.no_grad():
                module.weight[module.padding_idx].zero_()
