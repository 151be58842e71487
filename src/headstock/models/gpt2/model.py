"""GPT-2 with its language-model head (Radford et al. 2019), built from headstock's parts."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Self, cast

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from headstock.attention import AttentionInterface
from headstock.layers import Conv1D
from headstock.masks import Geometry, Mask, PreparedMask, causal, prepare
from headstock.models.base import Model, check_ids, keys_kept
from headstock.models.gpt2.config import GPT2Config
from headstock.models.gpt2.layers import GPT2Block
from headstock.models.weights import with_tied_head

__all__ = ["ATTENTION", "GPT2LMHeadModel", "GPT2Output"]

# The table that this file's layers look their function up in; an entry put here holds for every GPT2LMHeadModel.
ATTENTION = AttentionInterface()
# Causal masks that older files hold as buffers of each layer: constants, no weights.
_MASK_BUFFER = re.compile(r"transformer\.h\.\d+\.attn\.(bias|masked_bias)")


class GPT2Output(NamedTuple):
    """What a `GPT2LMHeadModel` returns.

    Attributes:
        logits: `[batch, tokens, vocabulary]`; row i scores the token after token i.
        hidden_states: the embeddings, each layer's output but the last, and the normalised last, when asked for.
    """

    logits: Tensor
    hidden_states: tuple[Tensor, ...] | None = None


class GPT2Model(nn.Module):
    """Embeddings, blocks and the last normalisation."""

    def __init__(self, config: GPT2Config, attention: AttentionInterface) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList(
            GPT2Block(config, layer_idx=index, attention=attention) for index in range(config.n_layer)
        )
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)

    def forward(
        self, input_ids: Int[Tensor, "batch tokens"], position_ids: Int[Tensor, "rows tokens"], mask: PreparedMask
    ) -> list[Tensor]:
        """The embeddings, each block's output but the last, and the normalised last."""
        states = [self.drop(self.wte(input_ids) + self.wpe(position_ids))]
        for block in self.h:
            states.append(block(states[-1], mask))
        return [*states[:-1], self.ln_f(states[-1])]


class GPT2LMHeadModel(Model):
    """GPT-2 with interchangeable attention; parameter names equal those of the published weights.

    Args:
        config: sizes and constants.
        attention: name of the attention function of all layers.

    Raises:
        UnknownName: there is no attention function of that name.

    Example:
        >>> config = GPT2Config(vocab_size=50, n_positions=10, n_embd=8, n_layer=2, n_head=2)
        >>> model = GPT2LMHeadModel(config, attention="eager").eval()
        >>> model(torch.tensor([[3, 1, 4]])).logits.shape
        torch.Size([1, 3, 50])
        >>> model.attention["eager"] = model.attention["sdpa"]  # for this model alone
        >>> model.attention.where("eager").layer
        'local'
    """

    config_class = GPT2Config
    file_attention = ATTENTION
    config: GPT2Config

    def __init__(self, config: GPT2Config, *, attention: str = "auto") -> None:
        super().__init__()
        self.config = config
        self.transformer = GPT2Model(config, self.attention)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.set_attention(attention)
        self.apply(self._initialise)
        self._tie()

    @property
    def layers(self) -> list[GPT2Block]:
        """The blocks, first to last."""
        return cast(list[GPT2Block], list(self.transformer.h))

    def forward(
        self,
        input_ids: Int[Tensor, "batch tokens"],
        attention_mask: Bool[Tensor, "batch tokens"] | Int[Tensor, "batch tokens"] | Mask | None = None,
        position_ids: Int[Tensor, "rows tokens"] | None = None,
        *,
        output_hidden_states: bool = False,
    ) -> GPT2Output:
        """Score the next token after each token; a token attends to itself and those before it.

        Args:
            input_ids: token ids.
            attention_mask: True or 1 for a token that others may attend to, or a `Mask`; joined to the causal one.
            position_ids: positions, None for 0, 1, 2, ... whatever the mask says: rows padded on the left want
                `attention_mask.cumsum(1) - 1`, at least 0.
            output_hidden_states: also return the hidden states.

        Raises:
            InvalidShape: ids and masks do not fit each other or the positions.
        """
        check_ids(input_ids, self.config.n_positions, position_ids=position_ids)
        batch, tokens = input_ids.shape
        kept = keys_kept(attention_mask, input_ids)
        mask = causal() if kept is None else causal() & kept
        prepared = prepare(mask, Geometry(batch, tokens, tokens, heads=self.config.n_head), device=input_ids.device)
        if position_ids is None:
            position_ids = torch.arange(tokens, device=input_ids.device)[None]
        states = self.transformer(input_ids, position_ids, prepared)
        return GPT2Output(self.lm_head(states[-1]), tuple(states) if output_hidden_states else None)

    @classmethod
    def _own_names(cls, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        # The first release's files hold the decoder alone, its names without the prefix.
        prefix = "" if any(name.startswith("transformer.") for name in tensors) else "transformer."
        named = {name if name == "lm_head.weight" else prefix + name: tensor for name, tensor in tensors.items()}
        return {name: tensor for name, tensor in named.items() if not _MASK_BUFFER.fullmatch(name)}

    @classmethod
    def _for(cls, config: Any, tensors: Mapping[str, Tensor]) -> Self:  # noqa: ARG003 -- every file has the same parts
        return cls(config)

    def _tied(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return with_tied_head(tensors, "transformer.wte.weight") if self.config.tie_word_embeddings else tensors

    def _tie(self) -> None:
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.transformer.wte.weight

    def _initialise(self, module: nn.Module) -> None:
        """Normal weights and zero biases; those into the residual stream are narrower (section 2.3)."""
        if isinstance(module, nn.Linear | nn.Embedding | Conv1D):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, Conv1D):
            nn.init.zeros_(module.bias)
        if isinstance(module, GPT2Block):
            narrow = self.config.initializer_range / (2 * self.config.n_layer) ** 0.5
            nn.init.normal_(module.attn.c_proj.weight, std=narrow)
            nn.init.normal_(module.mlp.c_proj.weight, std=narrow)
