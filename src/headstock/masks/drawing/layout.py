"""Where the parts of an image stand, in pixels, so that each cell covers whole ones."""

from textwrap import wrap
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from headstock.masks.drawing.picture import Drawing

__all__ = ["CHARACTER", "LINE", "MARGIN", "Layout", "layout_of"]

LINE = 20  # pixels, of text of 10 points at 100 dots an inch
CHARACTER = 9  # pixels, a digit
_LETTER = 8  # pixels, more than the usual one
_LINES = 6  # of a title; longer ones are cut
_PICTURE = 640  # what the longer side fills, where its cells are many enough
_LARGEST_CELL = 24
_NARROWEST = 440  # room for the legend
MARGIN = 16


class Layout(NamedTuple):
    """The boxes of an image; the origin is its upper left corner.

    Attributes:
        width, height: of the image.
        left, top: where the picture begins.
        cell: the side of a cell.
        title: the lines above the picture.
    """

    width: int
    height: int
    left: int
    top: int
    cell: int
    title: tuple[str, ...]


def layout_of(drawing: "Drawing") -> Layout:
    """Cells are as large as the picture's size allows, and square."""
    queries, keys = drawing.queries, drawing.keys
    cell = max(1, min(_LARGEST_CELL, _PICTURE // max(queries.cells, keys.cells, 1)))
    left = MARGIN + LINE + CHARACTER * len(str(queries.first + queries.length)) + MARGIN // 2
    # The last label stands over the last cell, and half of it beside it.
    right = MARGIN + CHARACTER * len(str(keys.first + keys.length))
    width = max(left + keys.cells * cell + right, _NARROWEST)
    lines = [each for text in (drawing.title, *drawing.extent.split("; ")) for each in _lines(text, width)]
    top = MARGIN + LINE * len(lines) + 2 * LINE + MARGIN
    height = top + queries.cells * cell + LINE + 2 * MARGIN
    return Layout(width, height, left, top, cell, tuple(lines))


def _lines(text: str, width: int) -> list[str]:
    return wrap(text, (width - 2 * MARGIN) // _LETTER, break_on_hyphens=False, max_lines=_LINES, placeholder=" ...")
