"""`to_window`: what it gives means the mask, entry by entry; what it refuses, and what it must not refuse."""

import pytest
import torch
from hypothesis import given
from torch import Tensor

from headstock.errors import UnsupportedFeature
from headstock.masks import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    Geometry,
    KernelWindow,
    Mask,
    bidirectional,
    causal,
    documents,
    padding,
    prefix_lm,
    prepare,
    sliding_window,
    to_dense,
    to_window,
)
from tests.support.masks import Case, cases
from tests.support.packing import Packable, kernel_entries, packables

WINDOW = causal() & sliding_window(3)


def same(window: KernelWindow, mask: Mask, geometry: Geometry) -> bool:
    entries = kernel_entries(geometry.kv_length, geometry.q_length, geometry.kv_length, *window)
    return torch.equal(entries.expand(geometry.shape), to_dense(mask, geometry).expand(geometry.shape))


@given(packables())
def test_what_it_gives_is_the_mask(drawn: Packable) -> None:
    try:
        window = to_window(drawn.mask, drawn.geometry)
    except UnsupportedFeature:
        return
    assert same(window, drawn.mask, drawn.geometry)


@given(cases(depth=2))
def test_any_expression_is_given_exactly_or_refused(case: Case) -> None:
    try:
        window = to_window(case.mask, case.geometry)
    except UnsupportedFeature:
        return
    assert same(window, case.mask, case.geometry)


@pytest.mark.parametrize(
    ("mask", "geometry", "window_size"),
    [
        pytest.param(bidirectional(), Geometry(2, 5, 8), (-1, -1), id="everything"),
        pytest.param(causal(), Geometry(2, 8, 8), (-1, 0), id="causal"),
        pytest.param(WINDOW, Geometry(2, 8, 8), (2, 0), id="a causal window"),
        pytest.param(sliding_window(3, right=2), Geometry(2, 8, 8), (2, 2), id="a window on both sides"),
        pytest.param(sliding_window(100, right=2), Geometry(2, 8, 8), (-1, 2), id="a window longer than the keys"),
        pytest.param(causal(), Geometry(1, 3, 8, q_offset=5), (-1, 0), id="causal after a cache"),
        pytest.param(causal(), Geometry(1, 8, 5), (-1, 3), id="more queries than keys, aligned at the first"),
        pytest.param(causal(), Geometry(1, 1, 8, q_offset=7), (-1, -1), id="one query"),
        pytest.param(WINDOW, Geometry(1, 1, 8, q_offset=7), (2, -1), id="one query under a window"),
        pytest.param(WINDOW, Geometry(1, 1, 3, q_offset=7, kv_offset=5), (-1, -1), id="a sliding cache"),
        pytest.param(WINDOW, Geometry(2, 2, 8, torch.tensor([6, 6])), (2, 0), id="rows that begin at one index"),
        pytest.param(
            WINDOW, Geometry(2, 2, 5, torch.tensor([6, 8]), torch.tensor([3, 5])), (2, 0), id="rows that end alike"
        ),
        pytest.param(WINDOW, Geometry(2, 2, 5, torch.tensor(6), 3), (2, 0), id="an offset for all rows"),
        pytest.param(causal() | prefix_lm(9), Geometry(1, 4, 3, q_offset=5), (-1, -1), id="what hides nothing"),
        pytest.param(causal(), Geometry(1, 0, 4), (-1, -1), id="no queries"),
        pytest.param(causal(), Geometry(0, 4, 4, q_offset=torch.tensor(0)), (-1, -1), id="no rows"),
    ],
)
def test_what_kernels_can_say_is_not_refused(mask: Mask, geometry: Geometry, window_size: tuple[int, int]) -> None:
    assert to_window(mask, geometry) == KernelWindow(window_size[1] == 0, window_size)
    assert same(to_window(mask, geometry), mask, geometry)


IDS = torch.tensor([[0, 0, 1, 1]])
BEYOND = "the last key of a sequence must lie in the band of its last query to become a kernel's window, got causal"
DATA = "a mask must be a diagonal band to become a kernel's window, got "


@pytest.mark.parametrize(
    ("mask", "geometry", "text"),
    [
        (causal() & documents(IDS), Geometry(1, 4, 4), DATA + "documents"),
        (
            causal() & padding(IDS > 0),
            Geometry(1, 4, 4),
            DATA + r"padding\(keep=bool\[1, 4\]\) in causal\(\) & padding",
        ),
        (
            causal() | documents(IDS),
            Geometry(1, 4, 4),
            "a mask must be a conjunction of .* to become a kernel's window",
        ),
        (causal(), Geometry(1, 2, 8, q_offset=3), BEYOND),
        (causal(), Geometry(2, 2, 8, q_offset=torch.tensor([3, 4])), BEYOND),
        (
            causal(),
            Geometry(2, 2, 2, q_offset=torch.tensor([3, 4]), kv_offset=torch.tensor([3, 3])),
            "the band must lie the same from the last query and the last key of every sequence to become",
        ),
        (causal(), Geometry(1, 8, 4), "the right side of a window must be less than the keys of the longest sequence"),
        (
            ~causal(),
            Geometry(1, 7, 5, kv_offset=4),
            "under a window with a left side alone no sequence may have over one",
        ),
        (sliding_window(2), Geometry(1, 4, 4, q_offset=9), "the last key of a sequence must lie in the band"),
    ],
)
def test_what_kernels_cannot_say_is_refused(mask: Mask, geometry: Geometry, text: str) -> None:
    with pytest.raises(UnsupportedFeature, match=text):
        to_window(mask, geometry)


def test_a_tensor_is_refused() -> None:
    with pytest.raises(
        UnsupportedFeature, match=r"written as patterns to become a kernel's window, got a tensor, bool"
    ):
        prepare(torch.ones(2, 2, dtype=torch.bool), Geometry(1, 2, 2)).window()


def test_a_prepared_mask_makes_it_once() -> None:
    prepared = prepare(WINDOW, Geometry(2, 8, 8))
    assert prepared.lower("window", dtype=torch.float32) is prepared.window()
    assert ALL_MASK_ATTENTION_FUNCTIONS["window"] is to_window


def scaled(query: Tensor, q_offset: int | Tensor) -> Tensor:
    batch_size, _, length, _ = query.shape
    window = to_window(WINDOW, Geometry(batch_size, length, length, q_offset, q_offset))
    return query * (window.window_size[0] + 2 * window.is_causal)


def test_structure_alone_compiles() -> None:
    compiled = torch.compile(scaled, fullgraph=True, backend="eager")
    for length in (2, 5, 6, 9):
        query = torch.randn(2, 3, length, 4)
        assert torch.equal(compiled(query, 3), scaled(query, 3))


def test_offsets_are_not_read_while_compiling() -> None:
    compiled = torch.compile(scaled, fullgraph=True, backend="eager")
    with pytest.raises(
        Exception, match="offsets must be numbers, or be read before compiling, to become a kernel's win"
    ):
        compiled(torch.randn(2, 3, 8, 4), torch.tensor([1, 2]))


class Scaled(torch.nn.Module):
    def forward(self, query: Tensor) -> Tensor:
        return scaled(query, 3)


def test_exported_for_lengths_on_both_sides_of_the_window() -> None:
    length = torch.export.Dim("length", min=2, max=64)
    example = torch.randn(2, 3, 5, 4)
    module = torch.export.export(Scaled(), (example,), dynamic_shapes={"query": {2: length}}).module()
    for each in (2, 3, 20):
        query = torch.randn(2, 3, each, 4)
        # An exported graph has the bound where it hides nothing too.
        assert torch.equal(module(query), query * (2 + 2))
