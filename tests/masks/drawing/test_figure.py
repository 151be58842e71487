"""Images: every pixel and shape against the mask, the same bytes each time, nothing of the user's changed."""

import hashlib
import itertools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
import pytest
import torch
from hypothesis import given, settings

from headstock.masks import Drawing, Geometry, Mask, causal, draw, first_tokens, sliding_window
from headstock.masks.drawing.figure import COLOURS
from headstock.masks.drawing.layout import layout_of
from headstock.masks.drawing.states import State
from tests.support.drawing import Shown, dense_row, expected_states, of_png, of_svg, shown

MASK = causal() & sliding_window(5) | first_tokens(2)


def small() -> Drawing:
    return draw(MASK, Geometry(1, 9, 16, q_offset=7))


@settings(max_examples=10)
@given(shown(most=40, longest=24))
def test_the_pixels_and_the_shapes_show_the_dense_mask(example: Shown) -> None:
    mask, _, geometry = example.case
    drawing = draw(mask, geometry, **example.arguments)  # type: ignore[arg-type]
    dense = dense_row(mask, geometry, example.arguments["batch_row"], example.arguments["head"])  # type: ignore[arg-type]
    expected = expected_states(dense, drawing.queries.cell, drawing.keys.cell)
    assert torch.equal(of_png(drawing), expected)
    assert torch.equal(of_svg(drawing), expected)


@pytest.mark.parametrize("size", [64, 200])
def test_large_masks_are_drawn_the_same_way(size: int) -> None:
    drawing = draw(causal() & sliding_window(20_000), Geometry(1, 100_000, 131_072, q_offset=31_072), size=size)
    assert len(drawing.states.unique()) == 3
    assert torch.equal(of_png(drawing), drawing.states)
    assert torch.equal(of_svg(drawing), drawing.states)


def test_unknown_cells_are_hatched() -> None:
    def opaque(b: Any, h: Any, i: Any, j: Any) -> Any:
        return (i * 1.0 == 999.0) & (j * 1.0 == 999.0)

    drawing = draw(opaque, Geometry(1, 131_072, 131_072), size=2)
    assert torch.equal(of_svg(drawing), torch.full((2, 2), int(State.UNKNOWN), dtype=torch.uint8))
    assert "<pattern" in drawing.svg()
    assert "<pattern" not in small().svg()


def test_the_texts_of_the_svg_are_text() -> None:
    root = ET.fromstring(small().svg())
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    lines = layout_of(small()).title
    assert set(lines) <= set(texts)
    assert " ".join(lines).startswith(repr(MASK))
    assert "queries 7..15 down, keys 0..15 across" in texts
    assert {"queries", "keys", "visible", "hidden", "7", "15"} <= set(texts)
    title = root.find("{http://www.w3.org/2000/svg}title")
    assert title is not None
    assert title.text == repr(MASK)


@pytest.mark.parametrize(("size", "middle"), [(16, 0.5), (8, 0.0)])
def test_labels_stand_amid_single_indices_and_at_the_edge_of_more(size: int, middle: float) -> None:
    drawing = draw(causal(), Geometry(1, 16, 16, q_offset=100), size=size)
    layout = layout_of(drawing)
    found = {each.text: each for each in ET.fromstring(drawing.svg()).iter("{http://www.w3.org/2000/svg}text")}
    step = drawing.keys.ticks(27, layout.cell).step
    for cell in range(0, drawing.keys.cells, step):
        x = float(found[str(drawing.keys.index_of(cell))].attrib["x"])
        assert x / 0.72 == pytest.approx(layout.left + (cell + middle) * layout.cell, abs=0.01)
    assert {str(drawing.queries.index_of(cell)) for cell in range(drawing.queries.cells)} <= set(found)


def digest(drawing: Drawing) -> str:
    return hashlib.sha256(drawing.svg().encode() + drawing.png()).hexdigest()


def test_another_process_makes_the_same_bytes_and_loads_matplotlib_late_and_without_pyplot() -> None:
    code = (
        "import hashlib, sys; from headstock.masks import *\n"
        "drawing = draw(causal() & sliding_window(5) | first_tokens(2), Geometry(1, 9, 16, q_offset=7)); str(drawing)\n"
        "before = 'matplotlib' in sys.modules\n"
        "print(hashlib.sha256(drawing.svg().encode() + drawing.png()).hexdigest())\n"
        "print(before, 'matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == ([digest(small()), "False", "True", "False"], "")


def test_settings_of_the_user_are_neither_read_nor_changed() -> None:
    plain = (small().svg(), small().png())
    with mpl.rc_context({"font.size": 25.0, "axes.facecolor": "red", "savefig.dpi": 30, "savefig.bbox": "tight"}):
        before = dict(mpl.rcParams)
        assert (small().svg(), small().png()) == plain
        assert dict(mpl.rcParams) == before


def test_threads_do_not_disturb_each_other() -> None:
    drawings = [draw(causal(), Geometry(1, length, length)) for length in range(2, 8)]
    alone = [each.svg() for each in drawings]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(Drawing.svg, drawings)) == alone


@pytest.mark.parametrize("name", ["$x_1$", "掩码", "a<b>&\"'", "x\ty"])
def test_any_name_of_a_function_can_be_drawn(name: str) -> None:
    def shows(b: Any, h: Any, i: Any, j: Any) -> Any:
        return j <= i

    shows.__name__ = name
    drawing = draw(Mask(shows), Geometry(1, 3, 3))
    assert torch.equal(of_svg(drawing), 2 * torch.ones(3, 3, dtype=torch.uint8).tril())
    assert torch.equal(of_png(drawing), of_svg(drawing))


def test_no_pairs_make_an_empty_picture() -> None:
    for geometry in (Geometry(1, 0, 4), Geometry(1, 4, 0), Geometry(1, 0, 0)):
        drawing = draw(causal(), geometry)
        assert drawing.png().startswith(b"\x89PNG")
        ET.fromstring(drawing.svg())


def test_colours_differ_in_lightness_alone() -> None:
    """So they do in print and for every eye: WCAG's relative luminance, contrast at least 1.7 from one to the next."""

    def luminance(colour: str) -> float:
        parts = [each / 255 for each in bytes.fromhex(colour[1:])]
        linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]
        return sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    shades = [luminance(COLOURS[state]) for state in (State.FULL, State.PARTLY, State.EMPTY)]
    assert all((light + 0.05) / (dark + 0.05) >= 1.7 for dark, light in itertools.pairwise(shades))
