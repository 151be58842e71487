"""`to_plan` is `plan`, found by name and made once."""

import pytest
import torch

from headstock.errors import InvalidConfig
from headstock.masks import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    BlockPlan,
    Geometry,
    causal,
    documents,
    plan,
    prepare,
    sliding_window,
    to_plan,
)

IDS = torch.arange(300).expand(2, -1) // torch.tensor([[70], [90]])
MASK, GEOMETRY = causal() & sliding_window(40) & documents(IDS), Geometry(2, 300, 300)


def same(left: BlockPlan, right: BlockPlan) -> bool:
    return torch.equal(left.full, right.full) and torch.equal(left.partial, right.partial)


@pytest.mark.parametrize("block_size", [128, 32, (16, 64)])
def test_it_is_the_plan_of_the_mask(block_size: int | tuple[int, int]) -> None:
    assert same(to_plan(MASK, GEOMETRY, block_size=block_size), plan(MASK, GEOMETRY, block_size))


def test_a_prepared_mask_plans_once_whatever_it_is_asked_by() -> None:
    prepared = prepare(MASK, GEOMETRY)
    assert prepared.lower("plan", dtype=torch.float32) is prepared.plan()
    assert to_plan(prepared, GEOMETRY) is prepared.plan()
    assert ALL_MASK_ATTENTION_FUNCTIONS["plan"] is to_plan


def test_what_is_no_block_size_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="block_size must be a positive integer or two of them"):
        to_plan(MASK, GEOMETRY, block_size=0)
