"""headstock in the models of transformers: `install()`, then `attn_implementation="headstock"`."""

from headstock.integrations.transformers.architectures import uses_attention_interface
from headstock.integrations.transformers.installing import install, installed, uninstall
from headstock.integrations.transformers.layers import use_layers
from headstock.integrations.transformers.overriding import TransformersModels
from headstock.overrides.kinds import KINDS

__all__ = ["install", "installed", "uninstall", "use_layers", "uses_attention_interface"]

KINDS.insert(0, TransformersModels())
