"""What a drawing must show, from the dense mask; and the pictures, read back."""

import io
import re
from typing import Any
from xml.etree import ElementTree as ET

import torch
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from headstock.masks import Drawing, Geometry, Mask, to_dense
from headstock.masks.drawing.figure import COLOURS
from headstock.masks.drawing.layout import layout_of
from headstock.masks.drawing.states import State
from tests.support.masks import Case, cases

__all__ = ["Shown", "dense_row", "expected_states", "of_png", "of_svg", "of_text", "shown"]

_GLYPHS = {"·": State.EMPTY, "▒": State.PARTLY, "█": State.FULL, "?": State.UNKNOWN}
_GLYPHS |= {".": State.EMPTY, "+": State.PARTLY, "#": State.FULL}
_SVG = "{http://www.w3.org/2000/svg}"


class Shown:
    """A case with a batch row, a head and a size to draw it by."""

    def __init__(self, case: Case, batch_row: int, head: int, size: tuple[int, int]) -> None:
        self.case, self.arguments = case, {"batch_row": batch_row, "head": head, "size": size}

    def __repr__(self) -> str:
        return f"draw({self.case.mask}, {self.case.geometry}, **{self.arguments})"


@st.composite
def shown(draw: st.DrawFn, /, *, most: int = 12, longest: int = 12, **extent: Any) -> Shown:
    """A random expression over a random geometry of at least one batch row, and a size."""
    case = draw(cases(longest=longest, **extent).filter(lambda each: each.geometry.batch_size > 0))
    sides = st.integers(1, most)
    return Shown(
        case,
        draw(st.integers(0, case.geometry.batch_size - 1)),
        draw(st.integers(0, case.geometry.heads - 1)),
        (draw(sides), draw(sides)),
    )


def dense_row(mask: Mask, geometry: Geometry, batch_row: int = 0, head: int = 0) -> Tensor:
    """`[queries, keys]` of one batch row and head."""
    return to_dense(mask, geometry).expand(geometry.shape)[batch_row, head]


def expected_states(dense: Tensor, q_cell: int, kv_cell: int) -> Tensor:
    """The state of each cell, one after the other."""
    rows, columns = -(-dense.shape[0] // q_cell), -(-dense.shape[1] // kv_cell)
    states = torch.zeros(rows, columns, dtype=torch.uint8)
    for row in range(rows):
        for column in range(columns):
            pairs = dense[row * q_cell : (row + 1) * q_cell, column * kv_cell : (column + 1) * kv_cell]
            states[row, column] = State.FULL if bool(pairs.all()) else State.PARTLY if bool(pairs.any()) else 0
    return states


def of_text(text: str, columns: int) -> Tensor:
    """The states that the rows of a picture in text show."""
    rows = re.findall(r"^ *\d+ ([·▒█?.+#][ ·▒█?.+#]*)$", text, flags=re.MULTILINE)
    read = [[int(_GLYPHS[each]) for each in row.replace(" ", "")] for row in rows]
    return torch.tensor(read, dtype=torch.uint8).reshape(-1, columns)


def of_png(drawing: Drawing) -> Tensor:
    """The states that the colours amid the cells of the PNG show."""
    layout = layout_of(drawing)
    image = Image.open(io.BytesIO(drawing.png())).convert("RGB")
    assert image.size == (layout.width, layout.height)
    meaning = {tuple(bytes.fromhex(colour[1:])): int(state) for state, colour in COLOURS.items()}
    middle = layout.cell // 2
    return torch.tensor(
        [
            [
                meaning[image.getpixel((layout.left + column * layout.cell + middle, y))]  # type: ignore[index]
                for column in range(drawing.keys.cells)
            ]
            for y in range(layout.top + middle, layout.top + drawing.queries.cells * layout.cell, layout.cell)
        ],
        dtype=torch.uint8,
    ).reshape(drawing.queries.cells, drawing.keys.cells)


def of_svg(drawing: Drawing) -> Tensor:
    """The states that the rectangles of the SVG show."""
    layout = layout_of(drawing)
    points = 0.72  # a pixel, at 100 an inch
    states = torch.zeros(drawing.queries.cells, drawing.keys.cells, dtype=torch.uint8)
    root = ET.fromstring(drawing.svg())
    for state in (State.PARTLY, State.FULL, State.UNKNOWN):
        for path in root.iterfind(f".//{_SVG}g[@id='{state.name.lower()}']/{_SVG}path"):
            for rectangle in path.attrib["d"].split("z")[:-1]:
                corners = torch.tensor([float(each) for each in re.findall(r"[\d.]+", rectangle)]).reshape(-1, 2)
                cells = (corners / points - torch.tensor([layout.left, layout.top])) / layout.cell
                (left, top), (right, bottom) = (each.round().int().tolist() for each in (cells.amin(0), cells.amax(0)))
                assert not states[top:bottom, left:right].any()
                states[top:bottom, left:right] = int(state)
    return states
