"""Calls of block-sparse attention in small blocks and small steps, so that all that it does occurs in a few tokens."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from unittest import mock

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from headstock.attention import AttentionOutput, ScoreBias
from headstock.attention.bias import BoundBias
from headstock.attention.blocked import blocked_attention, call, distances, pieces, schedule
from headstock.attention.blocked.pieces import Joining
from headstock.masks import CausalOrBlocks, Geometry, TiledPlan, prepare
from headstock.masks.planning.tiled import tiled
from tests.support.attention import Computed, Inputs
from tests.support.attention_cases import Case

__all__ = [
    "Steps",
    "blocks_of",
    "geometry_of",
    "leaves_of",
    "of_rounded_output",
    "plan_of",
    "run_in_steps",
    "small",
    "some",
    "steps",
]


class Steps(NamedTuple):
    """How a call is cut up: the sides of a block, and the constants of `pieces`, `schedule`, `call` and `distances`."""

    block_size: int | tuple[int, int] = 128
    most_keys: int = 2048
    most_pairs: int = 2**18
    fewest_strips: int = 4
    pairs: int = 2**20
    most_spans: int = 3
    least_rows: int = 128
    fewest_steps: int = 8
    fewest_rows: int = 64

    @property
    def joining(self) -> Joining:
        """How rows of blocks are joined, without triangles."""
        return Joining(1, self.most_pairs)


def some(part: int) -> int:
    """One in `part` of the examples that are asked for: of tests that take long."""
    return max(1, settings().max_examples // part)


@st.composite
def steps(draw: st.DrawFn) -> Steps:
    """Sizes at which a dozen of tokens need everything: joined rows, bands, overlaps, parts that are merged."""
    sides = st.sampled_from([1, 2, 3, 4, 7, 16])
    return Steps(
        block_size=draw(st.one_of(sides, st.tuples(sides, sides))),
        most_keys=draw(st.sampled_from([1, 4, 6, 2048])),
        most_pairs=draw(st.sampled_from([1, 30, 2**18])),
        fewest_strips=draw(st.sampled_from([2, 3, 4])),
        pairs=draw(st.sampled_from([1, 12, 50, 2**20])),
        most_spans=draw(st.integers(1, 4)),
        least_rows=draw(st.sampled_from([1, 2, 128])),
        fewest_steps=draw(st.sampled_from([1, 2, 3, 8])),
        fewest_rows=draw(st.sampled_from([1, 2, 64])),
    )


@contextlib.contextmanager
def small(chosen: Steps) -> Iterator[None]:
    """A block in which the constants are these."""
    with (
        mock.patch.multiple(
            pieces, _MOST_KEYS=chosen.most_keys, _MOST_SPANS=chosen.most_spans, _FEWEST_STEPS=chosen.fewest_steps
        ),
        mock.patch.object(schedule, "_FEWEST_STRIPS", chosen.fewest_strips),
        mock.patch.object(distances, "_LEAST_ROWS", chosen.least_rows),
        mock.patch.multiple(
            call,
            _PAIRS=chosen.pairs,
            _FUSED_PAIRS=2 * chosen.pairs,
            _MOST_PAIRS=chosen.most_pairs,
            _MOST_FUSED_PAIRS=2 * chosen.most_pairs,
            _FEWEST_ROWS=chosen.fewest_rows,
        ),
    ):
        yield


def geometry_of(case: Case) -> Geometry:
    """The extent of a call and its offset, by the rule of `attend`."""
    batch, heads, queries, keys = case.inputs.scores_shape
    aligned = max(keys - queries, 0) if case.q_offset is None else case.q_offset
    return Geometry(batch, queries, keys, aligned, heads=heads)


def blocks_of(
    mask: Any, geometry: Geometry, block_size: int | tuple[int, int], device: torch.device | None = None
) -> CausalOrBlocks | None:
    """What `to_causal_or_blocks` gives, in blocks of another size, and never without a plan."""
    if mask is None:
        return None
    values = prepare(mask, geometry, device=device).causal_or_blocks().bias
    shown = mask if values is None else values.detach() > torch.finfo(values.dtype).min
    return CausalOrBlocks(plan_of(shown, geometry, block_size, device), False, values)


def plan_of(
    mask: Any, geometry: Geometry, block_size: int | tuple[int, int], device: torch.device | None = None
) -> TiledPlan:
    """The plan of a mask in blocks of any size."""
    prepared = prepare(mask, geometry, device=device)
    return tiled(prepared.mask, prepared.plan(block_size), prepared.device)


def leaves_of(case: Case, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """The tensors of a case that have gradients, other than the mask's."""
    return {
        name: leaf.detach().to(dtype or leaf.dtype).requires_grad_()
        for name, leaf in case.inputs.leaves().items()
        if name != "added"
    }


def run_in_steps(
    case: Case,
    leaves: Mapping[str, Tensor],
    chosen: Steps,
    *,
    form: ScoreBias | None = None,
    dropout: float = 0.0,
) -> AttentionOutput:
    """The call in blocks of that size, inside of `small`, as its backward pass is; `form` in place of the bias."""
    geometry = geometry_of(case)
    bias = leaves.get("bias") if form is None else BoundBias(form, geometry)
    return blocked_attention(
        leaves["query"],
        leaves["key"],
        leaves["value"],
        blocks_of(case.mask, geometry, chosen.block_size, leaves["query"].device),
        scaling=case.inputs.scaling,
        softcap=case.inputs.softcap,
        sinks=leaves.get("sinks"),
        bias=bias,
        dropout=dropout,
    )


def of_rounded_output(inputs: Inputs, exact: Computed, upstream: Computed, dtype: torch.dtype) -> dict[str, Tensor]:
    """How much further off each gradient may be because the backward pass reads the output in the call's dtype.

    The derivative of a score is weight * (d weight - output . d output): what rounding moves the output by reaches each
    score's derivative through that product, and softcap only makes it smaller.
    """
    limits = torch.finfo(dtype)
    off_output = limits.eps / 2 * exact.output.abs() + limits.smallest_normal * limits.eps
    off_share = (upstream.output.abs() * off_output).sum(-1, keepdim=True)
    off_logit = exact.weights * off_share
    off = {
        name: off_logit.sum_to_size(term.shape)
        for name, term in (("bias", inputs.bias), ("added", inputs.added))
        if term is not None
    }
    if inputs.sinks is not None:
        of_sink = (inputs.sinks[:, None] - exact.log_sum_exp).exp()
        off["sinks"] = (of_sink * off_share.squeeze(-1)).sum((0, 2))
    off_score, groups = off_logit * abs(inputs.scaling), inputs.query.shape[1] // inputs.key.shape[1]
    off["query"] = off_score @ inputs.key.abs().repeat_interleave(groups, 1)
    off_key = off_score.mT @ inputs.query.abs()
    off["key"] = off_key.unflatten(1, (inputs.key.shape[1], groups)).sum(2)
    return {**off, "value": torch.zeros_like(inputs.value)}
