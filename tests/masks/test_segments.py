"""A conjunction taken apart."""

import pytest
import torch

from headstock.errors import UnsupportedFeature
from headstock.masks import (
    Geometry,
    Mask,
    blockwise,
    causal,
    chunked,
    documents,
    first_tokens,
    global_tokens,
    padding,
    sliding_window,
    tree,
)
from headstock.masks.predicate import Band, Conjunction
from headstock.masks.segments import parts_of

IDS = torch.tensor([[0, 0, 1, -1]])
KEEP = torch.tensor([[True, False, True, True]])
GEOMETRY = Geometry(1, 4, 4)
INDEX = torch.arange(4)[None]
ROW = torch.zeros(1, 4, dtype=torch.int64)


def test_bands_become_one_and_all_else_is_sorted() -> None:
    mask = (
        causal() & documents(IDS) & padding(KEEP) & sliding_window(2) & chunked(2) & (first_tokens(3) | ~padding(KEEP))
    )
    parts = parts_of(mask.predicate, GEOMETRY, "this")
    assert parts.band == Band(-1, 0)
    assert [Mask(each) for each in parts.labelled] == [documents(IDS), chunked(2)]
    assert [Mask(each) for each in parts.kept] == [padding(KEEP), first_tokens(3) | ~padding(KEEP)]


def test_what_hides_nothing_here_is_left_out() -> None:
    mask = documents(IDS) & (global_tokens([0]) | sliding_window(9, right=9)) & sliding_window(4, right=3)
    parts = parts_of(mask.predicate, GEOMETRY, "this")
    assert parts.band == Band(None, None)
    assert parts.kept == []


def test_conjunctions_may_be_nested() -> None:
    nested = Conjunction((causal().predicate, Conjunction((sliding_window(2).predicate, documents(IDS).predicate))))
    assert parts_of(nested, GEOMETRY, "this") == parts_of(
        (causal() & sliding_window(2) & documents(IDS)).predicate, GEOMETRY, "this"
    )


def test_labels_and_who_is_kept() -> None:
    mask = blockwise(IDS) & chunked(3, torch.tensor([1])) & padding(KEEP)
    parts = parts_of(mask.predicate, GEOMETRY, "this")
    assert [each.tolist() for each in parts.labels(ROW, INDEX)] == [[[0, 0, 1, -1]], [[-1, 0, 0, 0]]]
    assert parts.keeps(ROW, INDEX).tolist() == [[True, True, True, False]]
    assert parts.keeps_key(ROW, INDEX).tolist() == [[True, False, True, False]]


def test_a_band_of_nothing_keeps_no_key() -> None:
    parts = parts_of((causal() & ~causal()).predicate, GEOMETRY, "this")
    assert parts.keeps_key(ROW, INDEX).tolist() == [[False] * 4]


@pytest.mark.parametrize(
    "part",
    [
        global_tokens([0]),
        tree(torch.tensor([-1, 0, 1, 2])),
        causal() | documents(IDS),
        ~chunked(2),
        Mask(lambda b, h, i, j: j <= i),
        padding(KEEP) | causal(),
    ],
    ids=["global", "tree", "either", "other chunks", "function", "padding or"],
)
def test_any_other_part_is_named(part: Mask) -> None:
    with pytest.raises(UnsupportedFeature, match=r"a mask must be a conjunction of .* to become this, got ") as caught:
        parts_of((causal() & part).predicate, GEOMETRY, "this")
    shown = str(caught.value).split("to become this, got ")[1]
    assert shown.startswith(f"{part!r} in causal() & ")
