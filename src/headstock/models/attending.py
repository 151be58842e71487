"""The step that every self-attention of a model takes: look the function up by name, in an overlay of its own."""

from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor, nn

from headstock.attention import AUTO, AttentionInterface, call_attention
from headstock.attention.settings import settings_for
from headstock.masks import MaskLike, PreparedMask
from headstock.models.config import ModelConfig

__all__ = ["SelfAttention", "masks_are_set"]


class SelfAttention(nn.Module):
    """Base of the models' self-attention modules: projections are the subclass's, the attention function is looked up.

    Attributes:
        interface: this layer's overlay over the model's; an entry put here holds for this layer alone.
        implementation: the name that is looked up in it.
        scaling: what the scores are multiplied by.
        head_dim: width of a head.
        attention_dropout: with which probability a weight is dropped in training.
        num_key_value_groups, is_causal, layer_idx, config: read by functions that look at their module.
    """

    num_key_value_groups = 1

    def __init__(
        self,
        config: ModelConfig,
        *,
        layer_idx: int,
        attention: AttentionInterface,
        head_dim: int,
        is_causal: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.is_causal = is_causal
        self.interface = AttentionInterface(parent=attention)
        self.implementation = AUTO
        self.head_dim = head_dim
        self.scaling = head_dim**-0.5
        self.attention_dropout = 0.0

    def split_heads(self, merged: Float[Tensor, "batch tokens merged"]) -> Float[Tensor, "batch heads tokens head_dim"]:
        """Heads that lie side by side, apart."""
        batch, tokens, width = merged.shape
        return merged.view(batch, tokens, width // self.head_dim, self.head_dim).transpose(1, 2)

    def attend(
        self,
        query: Float[Tensor, "batch heads queries head_dim"],
        key: Float[Tensor, "batch kv_heads keys head_dim"],
        value: Float[Tensor, "batch kv_heads keys head_dim"],
        mask: PreparedMask | None,
    ) -> Float[Tensor, "batch queries merged"]:
        """Attention by the function of this layer's name, the heads side by side; overrides of the layer hold."""
        interface, implementation = self.interface, self.implementation
        settings = settings_for(self)
        masked: MaskLike | None = mask
        if settings is not None:
            masked = settings.masked(mask, query, key)
            implementation = settings.implementation or implementation
            interface = interface if settings.interface is None else settings.interface
        output, _ = call_attention(
            interface,
            implementation,
            self,
            query,
            key,
            value,
            masked,
            scaling=self.scaling,
            dropout=self.attention_dropout if self.training else 0.0,
        )
        return output.flatten(2)


def masks_are_set(modules: Iterable[SelfAttention]) -> bool:
    """Whether any of the modules has a mask of its own, to be laid out where the model's mask would."""
    for module in modules:
        settings = settings_for(module)
        if settings is not None and settings.mask is not None:
            return True
    return False
