"""GPT-2's parts, under the names that its published weights have."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from headstock.attention import AttentionInterface
from headstock.layers import Conv1D, GradientCheckpointingLayer
from headstock.masks import PreparedMask
from headstock.models.activations import ACTIVATIONS
from headstock.models.attending import SelfAttention
from headstock.models.gpt2.config import GPT2Config

__all__ = ["GPT2MLP", "GPT2Attention", "GPT2Block"]

Hidden = Float[Tensor, "batch tokens hidden"]


class GPT2Attention(SelfAttention):
    """One projection to queries, keys and values, attention by the layer's function, one projection back."""

    def __init__(self, config: GPT2Config, *, layer_idx: int, attention: AttentionInterface) -> None:
        super().__init__(
            config, layer_idx=layer_idx, attention=attention, head_dim=config.n_embd // config.n_head, is_causal=True
        )
        self.scaling = config.scaling(layer_idx)
        self.attention_dropout = config.attn_pdrop
        self.upcast = config.reorder_and_upcast_attn
        self.c_attn = Conv1D(3 * config.n_embd, config.n_embd)
        self.c_proj = Conv1D(config.n_embd, config.n_embd)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, hidden: Hidden, mask: PreparedMask) -> Hidden:
        """Attend over `hidden`."""
        query, key, value = (self.split_heads(each) for each in self.c_attn(hidden).chunk(3, dim=-1))
        merged = self._upcast(query, key, value, mask) if self.upcast else self.attend(query, key, value, mask)
        projected: Tensor = self.resid_dropout(self.c_proj(merged))
        return projected

    def _upcast(self, query: Tensor, key: Tensor, value: Tensor, mask: PreparedMask) -> Tensor:
        """Attention in float32, also under autocast (`reorder_and_upcast_attn`)."""
        with torch.autocast(query.device.type, enabled=False):
            return self.attend(query.float(), key.float(), value.float(), mask).to(query.dtype)


class GPT2MLP(nn.Module):
    """The feed-forward step."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.c_fc = Conv1D(config.inner, config.n_embd)
        self.c_proj = Conv1D(config.n_embd, config.inner)
        self.activation = ACTIVATIONS[config.activation_function]
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, hidden: Hidden) -> Hidden:
        """Widen, activate, narrow."""
        narrowed: Tensor = self.dropout(self.c_proj(self.activation(self.c_fc(hidden))))
        return narrowed


class GPT2Block(GradientCheckpointingLayer):
    """Attention and feed-forward, each normalised before and added after."""

    def __init__(self, config: GPT2Config, *, layer_idx: int, attention: AttentionInterface) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = GPT2Attention(config, layer_idx=layer_idx, attention=attention)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = GPT2MLP(config)

    def forward(self, hidden: Hidden, mask: PreparedMask) -> Hidden:
        """One layer."""
        hidden = hidden + self.attn(self.ln_1(hidden), mask)
        added: Tensor = hidden + self.mlp(self.ln_2(hidden))
        return added
