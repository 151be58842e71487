"""`transformers.modeling_rope_utils`: its table of RoPE variants, its typed dict, and its mixin for configurations."""

from headstock.compat.modeling_rope_utils.mixin import RotaryEmbeddingConfigMixin, rope_config_validation
from headstock.compat.modeling_rope_utils.parameters import RopeParameters
from headstock.compat.modeling_rope_utils.table import ROPE_INIT_FUNCTIONS
from headstock.rope import dynamic_rope_update

__all__ = [
    "ROPE_INIT_FUNCTIONS",
    "RopeParameters",
    "RotaryEmbeddingConfigMixin",
    "dynamic_rope_update",
    "rope_config_validation",
]
