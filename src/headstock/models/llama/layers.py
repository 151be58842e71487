"""Llama's parts, under the names that published weights have."""

from jaxtyping import Float
from torch import Tensor, nn

from headstock.attention import AttentionInterface
from headstock.caches import Cache
from headstock.layers import GradientCheckpointingLayer
from headstock.layers.norms import RMSNorm
from headstock.masks import PreparedMask
from headstock.models.activations import ACTIVATIONS
from headstock.models.attending import SelfAttention
from headstock.models.llama.config import LlamaConfig
from headstock.rope import apply_rotary_pos_emb, rotate

__all__ = ["LlamaAttention", "LlamaBlock", "LlamaMLP", "Rotary"]

Hidden = Float[Tensor, "batch tokens hidden"]
Rotary = tuple[Tensor, Tensor]


class LlamaAttention(SelfAttention):
    """Projections to queries, keys and values, rotation, attention by the layer's function, one projection back."""

    def __init__(self, config: LlamaConfig, *, layer_idx: int, attention: AttentionInterface) -> None:
        size, width = config.head_size, config.hidden_size
        super().__init__(config, layer_idx=layer_idx, attention=attention, head_dim=size, is_causal=True)
        self.num_key_value_groups = config.num_attention_heads // config.key_value_heads
        self.attention_dropout = config.attention_dropout
        self.rotates = config.rotates[layer_idx]
        self.interleaved = config.rotary_layout == "interleaved"
        bias, convention = config.attention_bias, config.convention
        self.q_proj = nn.Linear(width, config.num_attention_heads * size, bias=bias or convention.qkv_bias)
        self.k_proj = nn.Linear(width, config.key_value_heads * size, bias=bias or convention.qkv_bias)
        self.v_proj = nn.Linear(width, config.key_value_heads * size, bias=bias or convention.qkv_bias)
        self.o_proj = nn.Linear(config.num_attention_heads * size, width, bias=bias)
        self.q_norm = RMSNorm(size, config.rms_norm_eps) if convention.qk_norm else None
        self.k_norm = RMSNorm(size, config.rms_norm_eps) if convention.qk_norm else None

    def forward(self, hidden: Hidden, mask: PreparedMask | None, rotary: Rotary, cache: Cache | None) -> Hidden:
        """Attend over `hidden` and over what the cache holds."""
        query = self.split_heads(self.q_proj(hidden))
        key = self.split_heads(self.k_proj(hidden))
        value = self.split_heads(self.v_proj(hidden))
        if self.q_norm is not None and self.k_norm is not None:
            query, key = self.q_norm(query), self.k_norm(key)
        if self.rotates:
            query, key = self._rotated(query, key, *rotary)
        if cache is not None:
            key, value = cache.update(self.layer_idx, key, value)
        projected: Tensor = self.o_proj(self.attend(query, key, value, mask))
        return projected

    def _rotated(self, query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        if self.interleaved:
            return rotate(query, cos, sin, interleaved=True), rotate(key, cos, sin, interleaved=True)
        return apply_rotary_pos_emb(query, key, cos, sin)


class LlamaMLP(nn.Module):
    """The gated feed-forward step (SwiGLU with `silu`; Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        width, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj = nn.Linear(width, inner, bias=bias)
        self.up_proj = nn.Linear(width, inner, bias=bias)
        self.down_proj = nn.Linear(inner, width, bias=bias)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, hidden: Hidden) -> Hidden:
        """Widen twice, gate one with the other, narrow."""
        narrowed: Tensor = self.down_proj(self.activation(self.gate_proj(hidden)) * self.up_proj(hidden))
        return narrowed


class LlamaBlock(GradientCheckpointingLayer):
    """Attention and feed-forward, each normalised before and added after."""

    def __init__(self, config: LlamaConfig, *, layer_idx: int, attention: AttentionInterface) -> None:
        super().__init__()
        self.self_attn = LlamaAttention(config, layer_idx=layer_idx, attention=attention)
        self.mlp = LlamaMLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, hidden: Hidden, mask: PreparedMask | None, rotary: Rotary, cache: Cache | None = None) -> Hidden:
        """One layer."""
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), mask, rotary, cache)
        added: Tensor = hidden + self.mlp(self.post_attention_layernorm(hidden))
        return added
