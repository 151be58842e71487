"""`to_varlen`: what it gives means the mask, entry by entry; what it refuses, and what it must not refuse."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import example, given
from torch import Tensor

from headstock.errors import UnsupportedFeature
from headstock.masks import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    Geometry,
    Mask,
    Varlen,
    bidirectional,
    blockwise,
    causal,
    chunked,
    documents,
    first_tokens,
    padding,
    prefix_lm,
    prepare,
    sliding_window,
    to_dense,
    to_varlen,
)
from tests.support.devices import moved, on_each_device
from tests.support.masks import Case, cases
from tests.support.packing import Packable, dense_of_varlen, on_cpu, packables

IDS = torch.tensor([[0, 0, 0, 1, 1, 2, 2, 2], [5, 5, 5, 5, 5, 5, 6, 6]])
REAL = torch.tensor([3, 6])[:, None]
RIGHT = torch.arange(8) < REAL
LEFT = RIGHT.flip(1)
HOLES = torch.tensor([[True, False, True, True, False, False, True, True]] * 2)
WINDOW = causal() & sliding_window(3)


def same(packed: Varlen, mask: Mask, geometry: Geometry) -> bool:
    dense = to_dense(mask, geometry).expand(geometry.shape)
    return all(torch.equal(dense_of_varlen(packed), dense[:, head]) for head in range(geometry.heads))


@on_each_device
@given(drawn=packables())
@example(drawn=Packable(WINDOW & padding(RIGHT), Geometry(2, 8, 8)))
def test_what_it_gives_is_the_mask(device: str, drawn: Packable) -> None:
    there = moved(drawn, device)
    try:
        packed = to_varlen(there.mask, there.geometry, device=device)
    except UnsupportedFeature:
        return
    assert same(on_cpu(packed), drawn.mask, drawn.geometry)


@on_each_device
@given(case=cases())
def test_any_expression_is_given_exactly_or_refused(device: str, case: Case) -> None:
    there = moved(case, device)
    try:
        packed = to_varlen(there.mask, there.geometry, device=device)
    except UnsupportedFeature:
        return
    assert same(on_cpu(packed), case.mask, case.geometry)


DECODING = Geometry(2, 1, 8, q_offset=7)


@pytest.mark.parametrize(
    ("mask", "geometry", "window_size"),
    [
        pytest.param(bidirectional(), Geometry(2, 5, 8), (-1, -1), id="everything"),
        pytest.param(causal(), Geometry(2, 8, 8), (-1, 0), id="causal"),
        pytest.param(WINDOW, Geometry(2, 8, 8), (2, 0), id="a causal window"),
        pytest.param(sliding_window(3, right=2), Geometry(2, 8, 8), (2, 2), id="a window on both sides"),
        pytest.param(causal(), Geometry(2, 3, 8, q_offset=5), (-1, 0), id="causal after a cache"),
        pytest.param(causal(), Geometry(2, 3, 8, q_offset=3), (-1, 0), id="causal before the end of a static cache"),
        pytest.param(causal(), DECODING, (-1, -1), id="one query"),
        pytest.param(WINDOW, DECODING, (2, -1), id="one query under a window"),
        pytest.param(WINDOW & padding(HOLES), DECODING, (-1, -1), id="one query over a cache with holes"),
        pytest.param(causal(), Geometry(2, 1, 8, torch.tensor([2, 6])), (-1, -1), id="rows of a static cache"),
        pytest.param(
            causal(), Geometry(2, 2, 8, torch.tensor([2, 6])), (-1, 0), id="rows of a static cache, two queries"
        ),
        pytest.param(causal() & documents(IDS), Geometry(2, 8, 8), (-1, 0), id="causal in documents"),
        pytest.param(WINDOW & documents(IDS), Geometry(2, 8, 8), (2, 0), id="a window in documents"),
        pytest.param(documents(IDS), Geometry(2, 3, 8, q_offset=5), (-1, -1), id="documents of the last queries"),
        pytest.param(causal() & documents(IDS), Geometry(2, 3, 8, q_offset=5), (-1, 0), id="causal documents, cached"),
        pytest.param(causal() & chunked(3), Geometry(2, 8, 8), (-1, 0), id="chunks"),
        pytest.param(chunked(3, torch.tensor([0, 2])), Geometry(2, 8, 8), (-1, -1), id="chunks that begin by row"),
        pytest.param(documents(IDS) & chunked(2) & causal(), Geometry(2, 8, 8), (-1, 0), id="chunks of documents"),
        pytest.param(causal() & padding(LEFT), Geometry(2, 8, 8), (-1, 0), id="causal, padding on the left"),
        pytest.param(causal() & padding(RIGHT[1:]), Geometry(1, 8, 8), (-1, 2), id="causal, one padding on the right"),
        pytest.param(
            causal() & blockwise(torch.where(RIGHT, 0, -1)), Geometry(2, 8, 8), (-1, 0), id="padding hidden from both"
        ),
        pytest.param(padding(HOLES), Geometry(2, 8, 8), (-1, -1), id="holes without a band"),
        pytest.param(documents(IDS) & padding(HOLES), Geometry(2, 8, 8), (-1, -1), id="holes in documents"),
        pytest.param(first_tokens(3) & documents(IDS), Geometry(2, 8, 8), (-1, -1), id="the first tokens"),
        pytest.param(~padding(~RIGHT) & documents(IDS), Geometry(2, 8, 8), (-1, -1), id="padding said the other way"),
        pytest.param(prefix_lm(0) & causal() | causal(), Geometry(1, 8, 1), (-1, -1), id="what hides nothing"),
        pytest.param(
            (causal() | sliding_window(2, 2)) & documents(IDS), Geometry(2, 8, 8), (-1, 2), id="a union of bands"
        ),
        pytest.param(sliding_window(3) & padding(RIGHT[:1]), Geometry(1, 8, 8), (0, 2), id="queries after the padding"),
        pytest.param(causal() & ~causal(), Geometry(2, 4, 4), (-1, -1), id="nothing"),
    ],
)
def test_what_kernels_can_say_is_not_refused(mask: Mask, geometry: Geometry, window_size: tuple[int, int]) -> None:
    packed = to_varlen(mask, geometry)
    assert same(packed, mask, geometry)
    assert packed.window_size == window_size
    assert packed.is_causal == (window_size[1] == 0)


@pytest.mark.parametrize(
    ("mask", "geometry"),
    [
        (causal(), Geometry(3, 4, 6, q_offset=2)),
        (causal() & documents(IDS), Geometry(2, 8, 8)),
        (chunked(3), Geometry(2, 5, 5)),
    ],
)
def test_tokens_are_left_in_place_where_they_can_be(mask: Mask, geometry: Geometry) -> None:
    packed = to_varlen(mask, geometry)
    assert packed.q_indices is packed.kv_indices is None


def test_the_lengths_of_documents() -> None:
    packed = to_varlen(causal() & documents(IDS), Geometry(2, 8, 8))
    assert packed.cu_seqlens_q.tolist() == packed.cu_seqlens_k.tolist() == [0, 3, 5, 8, 14, 16]
    assert packed.cu_seqlens_q.dtype == packed.cu_seqlens_k.dtype == torch.int32
    assert (packed.max_seqlen_q, packed.max_seqlen_k) == (6, 6)


def test_a_query_without_keys_keeps_its_place_and_keys_without_a_query_go() -> None:
    ids = torch.tensor([[0, 0, 1, 1, 2]])
    packed = to_varlen(documents(ids), Geometry(1, 3, 3, q_offset=0, kv_offset=2))
    assert packed.cu_seqlens_q.tolist() == [0, 2, 3]
    assert packed.cu_seqlens_k.tolist() == [0, 0, 2]
    assert packed.q_indices is None
    assert packed.kv_indices is not None
    assert packed.kv_indices.tolist() == [0, 1]


def test_padding_on_the_left_leaves_the_queries_alone() -> None:
    packed = to_varlen(causal() & padding(LEFT), Geometry(2, 8, 8))
    assert packed.q_indices is None
    assert packed.cu_seqlens_k.tolist() == [0, 3, 9]


CONJUNCTION = (
    "a mask must be a conjunction of diagonal bands, documents, blocks, chunks and padding to become cumulative"
)
SHIFTS = "the band must lie the same from the last query and the last key of every sequence to have cumulative lengths"
GAPS = "the keys that a sequence sees, and its queries, must lie side by side under a band to have cumulative lengths"
APART = "the tokens of one document must follow each other to have cumulative lengths"
REPEATED = torch.tensor([[0, 0, 1, 1, 0, 0]])


@pytest.mark.parametrize(
    ("mask", "geometry", "text"),
    [
        (causal() | documents(IDS), Geometry(2, 8, 8), CONJUNCTION),
        (causal() & ~documents(IDS), Geometry(2, 8, 8), CONJUNCTION),
        (causal() & prefix_lm(3), Geometry(1, 8, 8), r"got prefix_lm\(length=3\) in causal\(\) & prefix_lm"),
        (Mask(lambda b, h, i, j: j <= i), Geometry(1, 4, 4), r"got Mask\(<lambda>\)"),
        (causal() & padding(RIGHT), Geometry(2, 8, 8), SHIFTS),
        (causal() & padding(RIGHT), Geometry(2, 8, 8), r"hide padding from queries too, by blockwise\(torch.where"),
        (causal() & padding(HOLES), Geometry(2, 8, 8), GAPS),
        (
            causal() & padding(RIGHT[:1]),
            Geometry(1, 8, 8),
            "the right side of a window must be less than the keys of the",
        ),
        (causal() & documents(REPEATED), Geometry(1, 6, 6), APART),
        (documents(REPEATED), Geometry(1, 2, 6), APART),
        (documents(REPEATED), Geometry(1, 6, 2), APART),
        (causal(), Geometry(2**16, 2**15, 2**15), "the tokens of all batch rows must be at most 2147483647"),
    ],
)
def test_what_kernels_cannot_say_is_refused(mask: Mask, geometry: Geometry, text: str) -> None:
    with pytest.raises(UnsupportedFeature, match=text):
        to_varlen(mask, geometry)


def test_an_id_in_several_places_that_nothing_asks_for_is_no_matter() -> None:
    mask, geometry = documents(REPEATED), Geometry(1, 2, 6, q_offset=2)
    assert same(to_varlen(mask, geometry), mask, geometry)


def test_a_tensor_is_refused() -> None:
    with pytest.raises(
        UnsupportedFeature, match=r"written as patterns to become cumulative lengths, got a tensor, bool"
    ):
        prepare(torch.ones(2, 2, dtype=torch.bool), Geometry(1, 2, 2)).varlen()


@pytest.mark.parametrize("name", ["varlen", "flash_attention_2", "flash_attention_3", "flash_attention_4"])
def test_a_prepared_mask_makes_it_once_whatever_the_name(name: str) -> None:
    prepared = prepare(causal() & documents(IDS), Geometry(2, 8, 8))
    assert prepared.lower(name, dtype=torch.float32) is prepared.varlen()
    assert ALL_MASK_ATTENTION_FUNCTIONS[name] is to_varlen


def packed_queries(query: Tensor, ids: Tensor | None) -> Tensor:
    batch_size, _, length, _ = query.shape
    mask = causal() & sliding_window(3) if ids is None else causal() & documents(ids)
    packed = to_varlen(mask, Geometry(batch_size, length, length))
    return packed.unpack(packed.pack_queries(query) * packed.cu_seqlens_q[-1])


def test_structure_alone_compiles() -> None:
    compiled = torch.compile(packed_queries, fullgraph=True, backend="eager")
    for length in (5, 6, 9):
        query = torch.randn(2, 3, length, 4)
        assert torch.equal(compiled(query, None), packed_queries(query, None))


def test_values_are_not_read_while_compiling() -> None:
    compiled = torch.compile(packed_queries, fullgraph=True, backend="eager")
    with pytest.raises(Exception, match="the values that cumulative lengths depend on must be read before compiling"):
        compiled(torch.randn(2, 3, 8, 4), IDS)


def test_values_are_not_read_where_they_are_none() -> None:
    mask = causal() & documents(IDS.to("meta"))
    with pytest.raises(UnsupportedFeature, match="must be read before compiling"):
        to_varlen(mask, Geometry(2, 8, 8))


@pytest.mark.cuda
@pytest.mark.parametrize(
    "make", [lambda ids, keep: WINDOW & documents(ids), lambda ids, keep: causal() & padding(keep)]
)
def test_everything_lies_where_the_mask_does(make: Callable[[Tensor, Tensor], Mask]) -> None:
    found = to_varlen(make(IDS.cuda(), LEFT.cuda()), Geometry(2, 8, 8))
    expected = to_varlen(make(IDS, LEFT), Geometry(2, 8, 8))
    for mine, meant in zip(found, expected, strict=True):
        if isinstance(meant, Tensor):
            assert isinstance(mine, Tensor)
            assert mine.is_cuda
            assert torch.equal(mine.cpu(), meant)
        else:
            assert mine == meant
