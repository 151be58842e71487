"""`full`: every layer is checkpointed."""

from headstock.layers.checkpointing.contract import CheckpointFunction, Layers
from headstock.layers.checkpointing.functions import Checkpoint

__all__ = ["full"]


def full(layers: Layers, *, use_reentrant: bool = False) -> dict[str, CheckpointFunction]:
    """Checkpoint every layer: of each, only the inputs stay in memory.

    Source: Chen et al., Training Deep Nets with Sublinear Memory Cost, arXiv:1604.06174.

    Example:
        >>> from headstock.layers.checkpointing.policies import full
        >>> full({"layers.0": None})
        {'layers.0': Checkpoint(use_reentrant=False)}
    """
    return dict.fromkeys(layers, Checkpoint(use_reentrant))
