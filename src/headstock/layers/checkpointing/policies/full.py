"""`full`: every layer is checkpointed."""

from headstock.layers.checkpointing.contract import Layers
from headstock.layers.checkpointing.functions import Checkpoint

__all__ = ["full"]


def full(layers: Layers, *, use_reentrant: bool = False) -> dict[str, Checkpoint]:
    """Checkpoint every layer: what stays in memory is each layer's input."""
    return dict.fromkeys(layers, Checkpoint(use_reentrant))
