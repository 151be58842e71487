"""Layers and what works on them: checkpointing, Conv1D, chunking, pruning, norms, all by name in `ALL_LAYERS`."""

from headstock.layers.checkpointing import (
    ALL_CHECKPOINT_POLICIES,
    CheckpointPolicyInterface,
    GradientCheckpointingLayer,
    set_gradient_checkpointing,
)
from headstock.layers.checkpointing.policies import every_k, full, offload, selective
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
    "every_k",
    "find_pruneable_heads_and_indices",
    "full",
    "layer_kind",
    "offload",
    "prune_conv1d_layer",
    "prune_layer",
    "prune_linear_layer",
    "selective",
    "set_gradient_checkpointing",
]
