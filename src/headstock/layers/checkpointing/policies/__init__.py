"""The built-in checkpointing policies, one file each."""

from headstock.layers.checkpointing.policies.every_k import every_k
from headstock.layers.checkpointing.policies.full import full
from headstock.layers.checkpointing.policies.offload import offload
from headstock.layers.checkpointing.policies.selective import KEPT_OPERATIONS, selective

__all__ = ["KEPT_OPERATIONS", "every_k", "full", "offload", "selective"]
