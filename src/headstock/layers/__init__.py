"""Layers and what works on them: checkpointing, Conv1D, chunking, pruning, norms, all by name in `ALL_LAYERS`."""

from headstock.layers.checkpointing import (
    ALL_CHECKPOINT_POLICIES,
    CheckpointPolicyInterface,
    GradientCheckpointingLayer,
    set_gradient_checkpointing,
)
from headstock.layers.chunking import apply_chunking_to_forward
from headstock.layers.contract import LayerComponent, LayerKind, layer_kind
from headstock.layers.conv1d import Conv1D
from headstock.layers.norms import RMSNorm
from headstock.layers.pruning import (
    find_pruneable_heads_and_indices,
    prune_conv1d_layer,
    prune_layer,
    prune_linear_layer,
)
from headstock.layers.table import ALL_LAYERS, LAYERS, LayerInterface

__all__ = [
    "ALL_CHECKPOINT_POLICIES",
    "ALL_LAYERS",
    "LAYERS",
    "CheckpointPolicyInterface",
    "Conv1D",
    "GradientCheckpointingLayer",
    "LayerComponent",
    "LayerInterface",
    "LayerKind",
    "RMSNorm",
    "apply_chunking_to_forward",
    "find_pruneable_heads_and_indices",
    "layer_kind",
    "prune_conv1d_layer",
    "prune_layer",
    "prune_linear_layer",
    "set_gradient_checkpointing",
]
