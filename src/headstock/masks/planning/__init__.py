"""Plans: which blocks of a mask hold something, found by calling its predicate on intervals of indices."""

from headstock.masks.planning.blocks import BlockPlan, Run
from headstock.masks.planning.plan import plan

__all__ = ["BlockPlan", "Run", "plan"]
