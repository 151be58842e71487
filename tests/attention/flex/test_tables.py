"""Tables say what the plan says, over every length; what reads them says so of each pair."""

import torch
from hypothesis import example, given
from hypothesis import strategies as st

from headstock.attention.flex.modifications import mask_mod_of
from headstock.attention.flex.tables import SIZE, Tables, tables_of
from headstock.masks import (
    Geometry,
    Mask,
    bidirectional,
    causal,
    documents,
    first_tokens,
    prepare,
    sliding_window,
    to_dense,
)
from headstock.masks.indices import Indices, indices_of

MASKS: dict[str, Mask] = {
    "causal": causal(),
    "window": causal() & sliding_window(40),
    "nothing": ~bidirectional(),
    "far": first_tokens(3) & ~sliding_window(150),
    "documents": documents(torch.arange(400).div(90, rounding_mode="floor").expand(2, -1).clone()),
    "by head": Mask(lambda b, h, i, j: (i + h) % 3 != j % 3),
}


def _visible(tables: Tables, geometry: Geometry, further: int, *, has_sinks: bool) -> torch.Tensor:
    """What a kernel makes of tables: full blocks are seen, partial ones where the function says so, no others."""
    batch, heads, queries, keys = geometry.shape
    sizes = torch.tensor([queries, keys, *tables.strides])
    longer = Geometry(batch, queries, keys + further, heads=heads)
    indices: Indices = indices_of(longer, None)
    seen = mask_mod_of(tables.held, tables.entries, sizes, has_sinks=has_sinks)(*indices)
    blocks = [
        torch.zeros_like(order, dtype=torch.bool).scatter(
            -1, order.long(), torch.arange(order.shape[-1]) < count.unsqueeze(-1)
        )
        for count, order in ((tables.partial_count, tables.partial), (tables.full_count, tables.full))
    ]
    partial, full = (
        each.repeat_interleave(SIZE, 2).repeat_interleave(SIZE, 3)[:, :, :queries, : keys + further] for each in blocks
    )
    assert not (partial & full).any()
    return (full | (partial & seen)).expand(longer.shape)


@given(
    name=st.sampled_from(sorted(MASKS)),
    queries=st.integers(1, 300),
    keys=st.integers(1, 300),
    has_sinks=st.booleans(),
    more=st.integers(0, 1),
)
@example(name="causal", queries=128, keys=256, has_sinks=True, more=0)
@example(name="nothing", queries=1, keys=1, has_sinks=False, more=1)
def test_tables_hold_the_mask_and_the_sink_behind_it(
    name: str, queries: int, keys: int, has_sinks: bool, more: int
) -> None:
    geometry = Geometry(2, queries, keys, max(keys - queries, 0), heads=3)
    plan = prepare(MASKS[name], geometry).tiled_plan()
    further = 1 if has_sinks else more
    visible = _visible(tables_of(plan, queries, keys, further=further), geometry, further, has_sinks=has_sinks)
    expected = to_dense(MASKS[name], geometry).expand(geometry.shape)
    assert torch.equal(visible[..., :keys], expected)
    assert torch.equal(visible[..., keys:], torch.full_like(visible[..., keys:], has_sinks))


@given(queries=st.integers(1, 300), keys=st.integers(1, 300), has_sinks=st.booleans())
def test_without_a_plan_every_key_is_visible(queries: int, keys: int, has_sinks: bool) -> None:
    geometry, further = Geometry(1, queries, keys), int(has_sinks)
    assert _visible(tables_of(None, queries, keys, further=further), geometry, further, has_sinks=has_sinks).all()


def test_no_dimension_of_blocks_is_one() -> None:
    tables = tables_of(prepare(causal(), Geometry(1, 1, 1)).tiled_plan(), 1, 1, further=0)
    assert min(tables.partial.shape[2:]) > 1
    assert tables.partial_count.shape == tables.partial.shape[:3]


def test_the_tables_of_a_plan_are_made_once() -> None:
    plan = prepare(causal(), Geometry(1, 200, 200)).tiled_plan()
    assert tables_of(plan, 200, 200, further=0) is tables_of(plan, 200, 200, further=0)
    assert tables_of(plan, 200, 200, further=1) is not tables_of(plan, 200, 200, further=0)
