"""BERT's encoder (Devlin et al. 2018, arXiv:1810.04805), built from headstock's parts."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from headstock.attention import AttentionInterface
from headstock.masks import Geometry, Mask, PreparedMask, prepare
from headstock.models.base import Model, check_ids, keys_kept
from headstock.models.bert.config import BertConfig
from headstock.models.bert.layers import BertEmbeddings, BertLayer, BertPooler

__all__ = ["ATTENTION", "BertModel", "BertOutput"]

# The table that this file's layers look their function up in; an entry put here holds for every BertModel.
ATTENTION = AttentionInterface()


class BertOutput(NamedTuple):
    """What a `BertModel` returns.

    Attributes:
        last_hidden_state: `[batch, tokens, hidden]`.
        pooler_output: `[batch, hidden]`, None where the model has no pooler.
        hidden_states: the embeddings and each layer's output, when asked for.
    """

    last_hidden_state: Tensor
    pooler_output: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class BertEncoder(nn.Module):
    """The layers, one after the other."""

    def __init__(self, config: BertConfig, attention: AttentionInterface) -> None:
        super().__init__()
        self.layer = nn.ModuleList(
            BertLayer(config, layer_idx=index, attention=attention) for index in range(config.num_hidden_layers)
        )

    def forward(self, hidden: Float[Tensor, "batch tokens hidden"], mask: PreparedMask | None) -> list[Tensor]:
        """The input and each layer's output."""
        states = [hidden]
        for layer in self.layer:
            states.append(layer(states[-1], mask))
        return states


class BertModel(Model):
    """BERT's encoder with interchangeable attention; parameter names equal those of the published weights.

    Args:
        config: sizes and constants.
        attention: name of the attention function of all layers.
        pooler: whether there is a pooler; `from_pretrained` sees it in the weights.

    Raises:
        UnknownName: there is no attention function of that name.

    Example:
        >>> config = BertConfig(vocab_size=50, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
        ...                     intermediate_size=16, max_position_embeddings=10)
        >>> model = BertModel(config, attention="eager").eval()
        >>> model(torch.tensor([[3, 1, 4]])).last_hidden_state.shape
        torch.Size([1, 3, 8])
        >>> model.prune_heads({0: [1]})
        >>> model.config.pruned_heads
        {0: [1]}
    """

    config_class = BertConfig
    file_attention = ATTENTION
    config: BertConfig

    def __init__(self, config: BertConfig, *, attention: str = "auto", pooler: bool = True) -> None:
        super().__init__()
        self.config = config
        self.embeddings = BertEmbeddings(config)
        self.encoder = BertEncoder(config, self.attention)
        self.pooler = BertPooler(config) if pooler else None
        self.set_attention(attention)
        self.apply(self._initialise)

    @property
    def layers(self) -> list[BertLayer]:
        """The layers, first to last."""
        return cast(list[BertLayer], list(self.encoder.layer))

    def forward(
        self,
        input_ids: Int[Tensor, "batch tokens"],
        attention_mask: Bool[Tensor, "batch tokens"] | Int[Tensor, "batch tokens"] | Mask | None = None,
        position_ids: Int[Tensor, "rows tokens"] | None = None,
        *,
        token_type_ids: Int[Tensor, "batch_or_1 tokens"] | None = None,
        output_hidden_states: bool = False,
    ) -> BertOutput:
        """Encode tokens.

        Args:
            input_ids: token ids.
            attention_mask: True or 1 for a token that others may attend to, or a `Mask`; None keeps all.
            position_ids: positions, None for 0, 1, 2, ... whatever the mask says.
            token_type_ids: segments, None for 0.
            output_hidden_states: also return the embeddings and each layer's output.

        Raises:
            InvalidShape: ids and masks do not fit each other or the positions.
        """
        check_ids(
            input_ids, self.config.max_position_embeddings, position_ids=position_ids, token_type_ids=token_type_ids
        )
        mask = self._prepared(keys_kept(attention_mask, input_ids), input_ids)
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        states = self.encoder(self.embeddings(input_ids, token_type_ids, position_ids), mask)
        pooled = None if self.pooler is None else self.pooler(states[-1])
        return BertOutput(states[-1], pooled, tuple(states) if output_hidden_states else None)

    def _prepared(self, mask: Mask | None, input_ids: Tensor) -> PreparedMask | None:
        batch, tokens = input_ids.shape
        # Layers that lost heads have no common number of them: a mask that tells heads apart is refused there.
        heads = 1 if self.config.pruned_heads else self.config.num_attention_heads
        geometry = Geometry(batch, tokens, tokens, heads=heads)
        return None if mask is None else prepare(mask, geometry, device=input_ids.device)

    def prune_heads(self, heads: Mapping[int, list[int]]) -> None:
        """Remove heads of layers for good; heads keep their first numbers, those already removed are passed over.

        The configuration records them in `pruned_heads`, so that `save_pretrained` and `from_pretrained` keep them.

        Raises:
            InvalidConfig: there is no such layer or head, or a layer would be left without heads.
        """
        before = self.config
        merged = {
            layer: sorted({*heads.get(layer, ()), *before.pruned_heads.get(layer, ())})
            for layer in sorted({*heads, *before.pruned_heads})
        }
        self.config = before.with_fields(pruned_heads={layer: pruned for layer, pruned in merged.items() if pruned})
        for layer in heads:
            pruned = set(before.pruned_heads.get(layer, ()))
            self.layers[layer].attention.prune_heads(heads[layer], pruned, before.num_attention_heads)
        for module in self._attention_modules():
            module.config = self.config

    @classmethod
    def _own_names(cls, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        # Files written by a model with a head have a prefix; older files hold a buffer of positions, no weight.
        prefix = "" if "embeddings.word_embeddings.weight" in tensors else "bert."
        named = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        return {name: tensor for name, tensor in named.items() if name != "embeddings.position_ids"}

    @classmethod
    def _for(cls, config: Any, tensors: Mapping[str, Tensor]) -> Self:
        return cls(config, pooler=any(name.startswith("pooler.") for name in tensors))

    def _initialise(self, module: nn.Module) -> None:
        """Normal weights and zero biases, the scheme of the original release."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])
