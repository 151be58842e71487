"""The shared table of layers' components."""

from torch import nn

from headstock.layers.checkpointing import GradientCheckpointingLayer
from headstock.layers.contract import LayerComponent, check_layer
from headstock.layers.conv1d import Conv1D
from headstock.layers.norms import RMSNorm
from headstock.registry import Interface, Registry
from headstock.rope.embedding import RotaryEmbedding
from headstock.rope.update import dynamic_rope_update

__all__ = ["ALL_LAYERS", "LAYERS", "LayerInterface"]

LAYERS: Registry[LayerComponent] = Registry(
    "layer",
    check=check_layer,
    builtins={
        "Conv1D": Conv1D,
        "GradientCheckpointingLayer": GradientCheckpointingLayer,
        "LayerNorm": nn.LayerNorm,
        "RMSNorm": RMSNorm,
        "RotaryEmbedding": RotaryEmbedding,
        "dynamic_rope_update": dynamic_rope_update,
    },
    entry_points="headstock.layers",
    home=("headstock.layers.table", "LAYERS"),
)


class LayerInterface(Interface[LayerComponent], registry=LAYERS):
    """Components of layers by name: one model's entries over the shared ones.

    Example:
        >>> from torch import nn
        >>> local = LayerInterface()
        >>> local["LayerNorm"] = nn.RMSNorm
        >>> local["LayerNorm"](8), ALL_LAYERS["LayerNorm"] is nn.LayerNorm
        (RMSNorm((8,), eps=None, elementwise_affine=True), True)
    """


ALL_LAYERS = LayerInterface()
