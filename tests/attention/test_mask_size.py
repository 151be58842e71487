"""What a representation is said to take is what it takes."""

import functools
import re
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from headstock.attention import AttentionInterface, explain
from headstock.attention.mask_size import bytes_of
from headstock.errors import UnsupportedFeature
from headstock.masks import BlockPlan, Geometry, Mask, causal, documents, padding, prepare, sliding_window
from headstock.registry import declare
from tests.support.attention_functions import additive

QUERY = torch.randn(2, 4, 300, 8)
KEY, VALUE = torch.randn(2, 2, 2, 300, 8)
IDS = torch.arange(300).expand(2, -1) // torch.tensor([[70], [90]])
KEEP = torch.arange(300) >= torch.tensor([[5], [130]])


def nbytes(found: Any) -> int:
    """The tensors of a representation, whatever holds them."""
    if isinstance(found, Tensor):
        return found.numel() * found.element_size()
    if isinstance(found, BlockMask):
        return nbytes(found.as_tuple())
    if isinstance(found, BlockPlan):
        return nbytes((found.first_run, found.starts, found.ends, found.is_full))
    return sum(map(nbytes, found)) if isinstance(found, tuple) else 0


def by_head(b: Any, h: Any, i: Any, j: Any) -> Any:
    return j <= i + h


@pytest.mark.parametrize(
    "mask",
    [
        *(causal(), causal() & sliding_window(20), causal() & documents(IDS), causal() & padding(KEEP)),
        *(documents(IDS), Mask(by_head), torch.rand(2, 1, 300, 300) < 0.3),
    ],
    ids=["causal", "window", "documents", "padding", "ids", "heads", "tensor"],
)
@pytest.mark.parametrize(
    "name", ["block_mask", "plan", "varlen", "window", "causal_or_blocks", "flex_attention", "flash_attention_2"]
)
def test_bytes_are_those_of_the_representation_that_a_users_entry_gets(name: str, mask: Mask | Tensor) -> None:
    interface = AttentionInterface()
    interface["mine"] = declare(functools.partial(additive), mask=name)
    prepared = prepare(mask, Geometry(2, 300, 300, heads=4))
    made: Any = None
    refusal = ""
    try:
        made = prepared.lower(name, dtype=torch.float32)
    except UnsupportedFeature as error:
        refusal = str(error)
    if made is None:
        with pytest.raises(UnsupportedFeature, match=re.escape(refusal)):
            explain(QUERY, KEY, VALUE, mask=mask, implementation="mine", interface=interface)
        return
    told = explain(QUERY, KEY, VALUE, mask=mask, implementation="mine", interface=interface)
    assert (told.representation, told.bytes) == (name, nbytes(made))


def test_a_block_mask_is_measured_as_it_was_given() -> None:
    block_mask = create_block_mask(by_head, 2, 4, 300, 300, device="cpu")
    interface = AttentionInterface()
    interface["mine"] = declare(functools.partial(additive), mask="block_mask")
    told = explain(QUERY, KEY, VALUE, mask=block_mask, implementation="mine", interface=interface)
    assert told.bytes == nbytes(block_mask)


def test_a_block_mask_is_not_made_to_be_measured() -> None:
    prepared = prepare(causal() & sliding_window(512), Geometry(1, 2**19, 2**19))
    # 4096 rows of blocks: two tables of 4096 x 4096 by rows and two by columns, int32.
    assert bytes_of(prepared, "block_mask", torch.float32) == 4 * 4 * (4096 * 4096 + 4096)
    assert prepared.known_block_mask() is None


def test_a_window_takes_none_and_packed_lengths_a_few() -> None:
    prepared = prepare(causal(), Geometry(2, 300, 300))
    assert bytes_of(prepared, "window", torch.float32) == 0
    assert bytes_of(prepared, "varlen", torch.float32) == 2 * 3 * 4


def test_values_of_an_additive_mask_count_beside_its_blocks() -> None:
    prepared = prepare(torch.randn(300, 300), Geometry(2, 300, 300))
    assert bytes_of(prepared, "causal_or_blocks", torch.bfloat16) == nbytes(
        prepared.lower("causal_or_blocks", dtype=torch.bfloat16)
    )
