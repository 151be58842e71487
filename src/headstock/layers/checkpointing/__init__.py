"""Layers whose activations are recomputed in backward, and the policies that choose which and how."""

from headstock.layers.checkpointing.contract import (
    CheckpointFunction,
    CheckpointPolicy,
    CheckpointReport,
    Layers,
    check_policy,
)
from headstock.layers.checkpointing.layer import GradientCheckpointingLayer
from headstock.layers.checkpointing.switch import set_gradient_checkpointing
from headstock.layers.checkpointing.table import ALL_CHECKPOINT_POLICIES, CHECKPOINT_POLICIES, CheckpointPolicyInterface

__all__ = [
    "ALL_CHECKPOINT_POLICIES",
    "CHECKPOINT_POLICIES",
    "CheckpointFunction",
    "CheckpointPolicy",
    "CheckpointPolicyInterface",
    "CheckpointReport",
    "GradientCheckpointingLayer",
    "Layers",
    "check_policy",
    "set_gradient_checkpointing",
]
