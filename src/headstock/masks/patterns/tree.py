"""Every query sees its ancestors in a tree: drafts of speculative decoding (Miao et al. 2023)."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from headstock.errors import InvalidConfig, UnsupportedFeature
from headstock.masks.contract import Index, Verdict
from headstock.masks.geometry import Geometry
from headstock.masks.mask import Mask
from headstock.masks.node import text_of_value
from headstock.masks.patterns.checks import check_covers, check_rows, check_table
from headstock.masks.patterns.tree_blocks import TreeBlocks
from headstock.masks.planning.interval import Interval
from headstock.masks.planning.truth import Truth
from headstock.masks.predicate import Band, Judging, Pattern
from headstock.masks.tracing import is_readable

_ADVICE = "pass parents as an integer tensor [tokens] or [batch, tokens], each token's parent or -1 for a root"
_MOST_BLOCKS = 2**22  # of which is kept whether they hold something


@dataclass(frozen=True, eq=False, repr=False)
class Tree(Pattern):
    """Where the key is the query or an ancestor of it."""

    name = "tree"

    parents: Int[Tensor, "rows tokens"]

    def __call__(self, batch_idx: Index, _head_idx: Index, q_idx: Index, kv_idx: Index, /) -> Verdict:
        """`j == i or j is an ancestor of i`: in depth-first order, i lies among the descendants of j."""
        row = batch_idx if self.parents.shape[0] > 1 else 0
        begin, end = self.spans
        place = begin[row, q_idx]
        return (begin[row, kv_idx] <= place) & (place < end[row, kv_idx])

    @property
    def judges_tightly(self) -> bool:
        """No: the spans of a block of keys need not be one range."""
        return False

    def for_plan(self, grid: Any) -> Judging:
        """With the blocks that hold a visible pair, where there are not too many blocks."""
        if grid.geometry.batch_size * grid.q_blocks * grid.kv_blocks > _MOST_BLOCKS:
            return self
        return _PlannedTree(self, TreeBlocks(self.parents, self.spans, grid))

    @cached_property
    def spans(self) -> tuple[Int[Tensor, "rows tokens"], Int[Tensor, "rows tokens"]]:
        """Each token's place in depth-first order, and the place after its last descendant."""
        found = [_spans(row) for row in self.parents.tolist()]
        begin, end = (torch.tensor([each[side] for each in found], dtype=torch.int64) for side in (0, 1))
        return begin.to(self.parents.device), end.to(self.parents.device)

    def tensors(self) -> tuple[Tensor, ...]:
        """`parents`."""
        return (self.parents,)

    def check(self, geometry: Geometry) -> None:
        """Refuse another number of batch rows than one or theirs, and tokens past the last parent."""
        if self.parents.shape[0] != 1:
            check_rows("tree's parents", self.parents.shape[0], geometry)
        check_covers("tree's parents", self.parents.shape[1], geometry)


class _PlannedTree:
    """A tree whose blocks are known."""

    judges_tightly = True
    is_connected = False

    def __init__(self, pattern: Tree, blocks: TreeBlocks) -> None:
        self.pattern = pattern
        self.blocks = blocks

    def hull(self) -> Band:
        """No key after its query, where no token comes before its parent."""
        parents = self.pattern.parents
        rises = bool((parents < torch.arange(parents.shape[1], device=parents.device)).all())
        return Band(None, 0) if rises else Band(None, None)

    def judge(self, batch_idx: Interval, head_idx: Interval, q_idx: Interval, kv_idx: Interval) -> Truth:
        """What is known of blocks, and what spans say of other boxes."""
        known = self.blocks.judge(batch_idx, q_idx, kv_idx)
        return self.pattern(batch_idx, head_idx, q_idx, kv_idx) if known is None else known


def tree(parents: Tensor) -> Mask:
    """Key j is visible to query i when j is i or an ancestor of i (Miao et al. 2023, arXiv:2305.09781, section 4.2).

    Shape: parents `[tokens]`, or `[batch, tokens]` with a tree for each row; integers, -1 for a root. Positions are
    absolute: with a cache the tree begins with the tokens in it, each the parent of the next.

    Raises:
        InvalidConfig: a parent is no token of the tree, or a token is its own ancestor.
        InvalidShape: `parents` is not an integer tensor of one or two dimensions.
        UnsupportedFeature: its values cannot be read now.

    >>> import torch
    >>> mask = tree(torch.tensor([-1, 0, 0, 1]))
    >>> [bool(mask(0, 0, 3, kv_idx)) for kv_idx in range(4)]
    [True, True, False, True]
    """
    table: Any = parents
    if isinstance(table, Tensor) and table.ndim == 1:
        table = table[None]
    check_table("tree's parents", table, booleans=False, advice=_ADVICE)
    if not is_readable(table):
        raise UnsupportedFeature(
            f"tree's parents must hold values that can be read now, got {text_of_value(table)} on {table.device}; "
            "make the mask where they are known, outside of compiled code"
        )
    pattern = Tree(table)
    pattern.spans  # noqa: B018 -- what is no tree is refused here
    return Mask(pattern)


def _spans(parents: list[int]) -> tuple[list[int], list[int]]:
    """Depth-first places of one tree, without recursion: a chain may be as long as a text."""
    children: list[list[int]] = [[] for _ in range(len(parents) + 1)]  # the last entry: the roots
    for token, parent in enumerate(parents):
        if not -1 <= parent < len(parents):
            raise InvalidConfig(f"tree's parents must be tokens 0..{len(parents) - 1} or -1, got {parent}; {_ADVICE}")
        children[parent].append(token)
    begin, end = [-1] * len(parents), [-1] * len(parents)
    place, stack = 0, [(token, False) for token in reversed(children[-1])]
    while stack:
        token, done = stack.pop()
        if done:
            end[token] = place
            continue
        begin[token] = place
        place += 1
        stack.append((token, True))
        stack.extend((child, False) for child in reversed(children[token]))
    if place < len(parents):
        raise InvalidConfig(
            f"tree's parents must lead to a root, got a circle through token {begin.index(-1)}; {_ADVICE}"
        )
    return begin, end
