"""The shared table of checkpointing policies."""

from headstock.layers.checkpointing.contract import CheckpointPolicy, check_policy
from headstock.layers.checkpointing.policies import every_k, full, offload, selective
from headstock.registry import Interface, Registry

__all__ = ["ALL_CHECKPOINT_POLICIES", "CHECKPOINT_POLICIES", "CheckpointPolicyInterface"]

CHECKPOINT_POLICIES: Registry[CheckpointPolicy] = Registry(
    "checkpoint policy",
    check=check_policy,
    builtins={"every_k": every_k, "full": full, "offload": offload, "selective": selective},
    entry_points="headstock.checkpoint_policies",
    home=("headstock.layers.checkpointing.table", "CHECKPOINT_POLICIES"),
)


class CheckpointPolicyInterface(Interface[CheckpointPolicy], registry=CHECKPOINT_POLICIES):
    """Checkpointing policies by name: one model's entries over the shared ones."""


ALL_CHECKPOINT_POLICIES = CheckpointPolicyInterface()
