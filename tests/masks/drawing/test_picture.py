"""`draw`: what it takes, what it refuses, and what a drawing can be turned into."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from headstock.errors import InvalidComponent, InvalidConfig, InvalidShape, UnsupportedFeature
from headstock.masks import Drawing, Geometry, causal, draw, padding, prepare, sliding_window, to_block_mask

GEOMETRY = Geometry(batch_size=2, q_length=6, kv_length=6, heads=3)


def small() -> Drawing:
    return draw(causal(), GEOMETRY)


@pytest.mark.parametrize("value", [-1, 2, True, 1.0, None])
def test_a_batch_row_must_be_one_of_the_geometry(value: Any) -> None:
    with pytest.raises(
        InvalidConfig,
        match=re.escape(f"batch_row must be an integer from 0 to 1, got {value!r}; name one that the geometry has"),
    ):
        draw(causal(), GEOMETRY, batch_row=value)


def test_a_head_must_be_one_of_the_geometry() -> None:
    with pytest.raises(InvalidConfig, match=r"^head must be an integer from 0 to 2, got 3; name one that the geometry"):
        draw(causal(), GEOMETRY, head=3)


def test_a_geometry_without_batch_rows_has_none_to_draw() -> None:
    with pytest.raises(
        InvalidConfig,
        match=r"^batch_row must be one that the geometry has, got 0 and a geometry without any; draw another one$",
    ):
        draw(causal(), Geometry(0, 3, 3))


@pytest.mark.parametrize("size", [0, -1, 4097, True, 2.0, None, (3,), (3, 4, 5), (3, 0), (True, 3), [3, 4]])
def test_a_size_must_be_a_number_of_cells(size: Any) -> None:
    with pytest.raises(
        InvalidConfig,
        match=re.escape(f"size must be an integer from 1 to 4096 or two of them (queries, keys), got {size!r}; 64 is"),
    ):
        draw(causal(), GEOMETRY, size=size)


def test_a_mask_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidShape, match="padding"):
        draw(padding(torch.ones(3, 6, dtype=torch.bool)), GEOMETRY)


def test_numbers_that_are_added_to_the_scores_cannot_be_drawn() -> None:
    with pytest.raises(UnsupportedFeature, match="must hold nothing but 0 and the lowest finite value or -inf"):
        draw(torch.randn(6, 6), GEOMETRY)


@pytest.mark.parametrize("length", [4, 1_000_000])
def test_a_function_that_says_no_boolean_is_refused(length: int) -> None:
    def numbers(b: Any, h: Any, i: Any, j: Any) -> Any:
        return i - j

    with pytest.raises(InvalidComponent, match=r"^Mask\(numbers\) must return a boolean, got torch.int64"):
        draw(numbers, Geometry(1, length, length))


def test_whatever_is_a_mask_can_be_drawn() -> None:
    expected = small().states
    dense = torch.ones(6, 6, dtype=torch.bool).tril()
    forms: list[Any] = [lambda b, h, i, j: j <= i, dense, torch.zeros(6, 6).masked_fill(~dense, -torch.inf)]
    forms += [prepare(causal(), GEOMETRY), "causal", to_block_mask(causal(), GEOMETRY)]
    for form in forms:
        assert torch.equal(draw(form, GEOMETRY).states, expected)


def test_a_prepared_mask_draws_itself() -> None:
    keep = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 1, 1]]).bool()
    drawing = prepare(padding(keep), GEOMETRY).draw(batch_row=1, head=2, size=(1, 6))
    assert drawing.states.tolist() == [[0, 2, 2, 0, 2, 2]]
    assert str(drawing).splitlines()[1].startswith("batch row 1, head 2; queries 0..5 down")


def test_each_row_begins_at_its_own_offset() -> None:
    geometry = Geometry(2, 2, 8, q_offset=torch.tensor([1, 5]), kv_offset=torch.tensor([0, 2]))
    drawings = [draw(causal() & sliding_window(2), geometry, batch_row=row) for row in range(2)]
    assert [(each.queries.first, each.keys.first) for each in drawings] == [(1, 0), (5, 2)]
    assert drawings[1].states.tolist() == [[0, 0, 2, 2, 0, 0, 0, 0], [0, 0, 0, 2, 2, 0, 0, 0]]


def test_the_file_s_suffix_names_the_form(tmp_path: Path) -> None:
    drawing = small()
    for name in ("x.txt", "x.svg", "x.PNG"):
        drawing.save(tmp_path / name)
    drawing.save(str(tmp_path / "y.txt"))
    assert (tmp_path / "x.txt").read_text(encoding="utf-8") == f"{drawing}\n" == (tmp_path / "y.txt").read_text("utf-8")
    assert (tmp_path / "x.svg").read_text(encoding="utf-8") == drawing.svg()
    assert (tmp_path / "x.PNG").read_bytes() == drawing.png()


@pytest.mark.parametrize("name", ["x.pdf", "x", ".png"])
def test_another_suffix_is_refused_and_nothing_written(tmp_path: Path, name: str) -> None:
    rule = (
        rf"^a drawing's file must end in \.txt, \.svg, \.png, got '.*{re.escape(name)}'; name the form by the suffix$"
    )
    with pytest.raises(InvalidConfig, match=rule):
        small().save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_notebook_shows_the_svg() -> None:
    assert small()._repr_svg_() == small().svg()


def test_a_drawing_is_told_apart_in_a_list() -> None:
    assert repr(draw(causal(), Geometry(1, 100, 50))) == "Drawing(causal(), 50 x 50 cells of 2 x 1 pairs)"
