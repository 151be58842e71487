"""The built-in checkpointing policies, one file each."""

from headstock.layers.checkpointing.policies.full import full

__all__ = ["full"]
