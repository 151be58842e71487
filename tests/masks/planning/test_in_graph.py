"""Plans that are made while a compiled graph runs: those of eager mode, for every pattern."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.attention.flex_attention import create_block_mask

from headstock.errors import UnsupportedFeature
from headstock.masks import (
    Geometry,
    Mask,
    bidirectional,
    blockwise,
    causal,
    chunked,
    dilated_window,
    documents,
    first_tokens,
    global_tokens,
    neighborhood,
    padding,
    prefix_lm,
    prepare,
    sliding_window,
    tree,
)
from headstock.masks.planning.in_graph import tiled_in_graph
from headstock.masks.sequences import mask_within
from headstock.masks.torch_blocks import mask_of_blocks

TOKENS = 300
IDS = torch.tensor([[0] * 100 + [1] * 200, [-1] * 50 + [2] * 250])
PARENTS = torch.arange(TOKENS) - 1
BRANCHES = tree(torch.where(PARENTS % 7 == 3, PARENTS - 2, PARENTS))
MASKS: dict[str, Callable[[Tensor], Mask]] = {
    "window": lambda _: causal() & sliding_window(50),
    "window on both sides": lambda _: sliding_window(5, right=9),
    "documents": lambda ids: causal() & documents(ids),
    "blockwise": blockwise,
    "not": lambda ids: (causal() & documents(ids)).complement(),
    "brackets": lambda ids: causal() & (sliding_window(30) | first_tokens(4)) & documents(ids),
    "no brackets": lambda ids: causal() & sliding_window(30) | first_tokens(4) & documents(ids),
    "padding": lambda ids: padding(ids > 0),
    "chunked": lambda _: chunked(64, torch.tensor([3, 9])),
    "prefix_lm": lambda _: prefix_lm(torch.tensor([4, 170])),
    "dilated": lambda _: dilated_window(9, 3),
    "global tokens": lambda _: global_tokens([3, 200]) & causal(),
    "neighborhood": lambda _: neighborhood(15, 20, 2),
    "tree": lambda _: BRANCHES,
    "full in parts": lambda _: bidirectional() & causal().complement() | causal() & sliding_window(8),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_graph_makes_the_plan_of_eager_mode(name: str) -> None:
    geometry = Geometry(2, TOKENS, TOKENS)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def planned(ids: Tensor) -> tuple[Tensor, ...]:
        return tuple(prepare(MASKS[name](ids), geometry).tiled_plan())

    found = planned(IDS)
    expected = prepare(MASKS[name](IDS), geometry).tiled_plan()
    assert all(map(torch.equal, found, expected))


def test_a_mask_given_as_a_tensor_is_planned_in_a_graph_too() -> None:
    geometry = Geometry(2, TOKENS, TOKENS, q_offset=torch.tensor([1, 0]))
    given = torch.rand(2, 1, TOKENS, TOKENS) > 0.999

    @torch.compile(fullgraph=True, backend="aot_eager")
    def planned(given: Tensor) -> tuple[Tensor, ...]:
        return tuple(prepare(given, geometry).tiled_plan())

    assert all(map(torch.equal, planned(given), prepare(given, geometry).tiled_plan()))


def test_one_graph_serves_every_length_and_offset() -> None:
    graphs = CompileCounterWithBackend("aot_eager")

    @torch.compile(fullgraph=True, backend=graphs, dynamic=True)
    def planned(keys: Tensor, offset: Tensor) -> tuple[Tensor, ...]:
        geometry = Geometry(1, keys.shape[0] // 2, keys.shape[0], offset)
        return tuple(prepare(causal() & sliding_window(40), geometry).tiled_plan())

    for length in (300, 512, 130):
        offset = torch.tensor(length - length // 2)
        geometry = Geometry(1, length // 2, length, length - length // 2)
        expected = prepare(causal() & sliding_window(40), geometry).tiled_plan()
        found = planned(torch.zeros(length), offset)
        assert torch.equal(found[0], expected.first_block)
        assert torch.equal(found[1], expected.kv_block)
        assert torch.equal(found[3][found[2].clamp(min=0)], expected.tiles[expected.tile.clamp(min=0)])
    assert graphs.frame_count == 1


def test_the_operator_is_one_to_torch() -> None:
    numbers = ([2, 200, 200, 1], [128, 0, 0])
    text = "(causal() & (sliding_window(size=30, right=0) | ~documents(ids=t0)))"
    arguments = (text, [IDS], *numbers, torch.tensor([3, 0]), None, torch.device("cpu"))
    # The rest of what it checks needs outputs whose sizes do not depend on data.
    torch.library.opcheck(torch.ops.headstock.tile_mask, arguments, test_utils=("test_schema", "test_faketensor"))


def test_a_plain_function_is_refused_telling_where_to_plan_it() -> None:
    mask = causal() & Mask(lambda _b, _h, q_idx, kv_idx: q_idx - kv_idx < 3)
    with pytest.raises(
        UnsupportedFeature, match=r"built of patterns to be planned in compiled code, got Mask\(<lambda>"
    ):
        tiled_in_graph(mask, Geometry(1, 8, 8), 128, None)


def test_packed_sequences_and_block_masks_are_refused_as_plain_functions_are() -> None:
    starts = torch.tensor([0, 3, 8])
    within = mask_within(prefix_lm(2), starts, torch.tensor([0, 4, 9]), 8, 9)
    given = Geometry(1, 8, 8)
    blocks = mask_of_blocks(create_block_mask(causal(), None, None, 8, 8, device="cpu"), given)
    for mask in (within, blocks):
        with pytest.raises(UnsupportedFeature, match="to be planned in compiled code, got given"):
            tiled_in_graph(mask, given, 128, None)
