"""Layers whose activations are recomputed in backward, and the policies that choose which and how."""

from headstock.layers.checkpointing.contract import (
    CheckpointFunction,
    CheckpointPolicy,
    CheckpointReport,
    Layers,
    check_policy,
)
from headstock.layers.checkpointing.functions import Checkpoint
from headstock.layers.checkpointing.layer import GradientCheckpointingLayer
from headstock.layers.checkpointing.policies import KEPT_OPERATIONS, every_k, full, offload, selective
from headstock.layers.checkpointing.switch import set_gradient_checkpointing
from headstock.layers.checkpointing.table import ALL_CHECKPOINT_POLICIES, CHECKPOINT_POLICIES, CheckpointPolicyInterface

__all__ = [
    "ALL_CHECKPOINT_POLICIES",
    "CHECKPOINT_POLICIES",
    "KEPT_OPERATIONS",
    "Checkpoint",
    "CheckpointFunction",
    "CheckpointPolicy",
    "CheckpointPolicyInterface",
    "CheckpointReport",
    "GradientCheckpointingLayer",
    "Layers",
    "check_policy",
    "every_k",
    "full",
    "offload",
    "selective",
    "set_gradient_checkpointing",
]
