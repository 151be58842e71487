"""A drawing as text: a character a cell, absolute indices at its sides, a legend."""

from textwrap import wrap
from typing import TYPE_CHECKING

from headstock.masks.drawing.states import State

if TYPE_CHECKING:
    from headstock.masks.drawing.picture import Drawing

__all__ = ["text_of"]

_WIDTH = 79
_SPACED = 32  # columns; up to these, blanks between them make the picture as wide as it is high
_BLOCKS = {State.EMPTY: "·", State.PARTLY: "▒", State.FULL: "█", State.UNKNOWN: "?"}
_ASCII = {State.EMPTY: ".", State.PARTLY: "+", State.FULL: "#", State.UNKNOWN: "?"}


def text_of(drawing: "Drawing", *, ascii_only: bool) -> str:
    """The picture between its title and its legend."""
    glyphs = _ASCII if ascii_only else _BLOCKS
    pitch = 2 if drawing.keys.cells <= _SPACED else 1
    lines = [*wrap(drawing.title, _WIDTH, break_long_words=False, break_on_hyphens=False), drawing.extent, ""]
    if drawing.states.numel():
        margin = len(str(drawing.queries.index_of(drawing.queries.cells - 1)))
        lines += [" " * (margin + 1) + _header(drawing, pitch), *_rows(drawing, glyphs, margin, pitch), ""]
        lines.append("   ".join(f"{glyphs[state]} {meaning}" for state, meaning in drawing.legend.items()))
    else:
        lines.append("nothing to draw")
    return "\n".join(lines)


def _header(drawing: "Drawing", pitch: int) -> str:
    """Each label begins over the column that it is of."""
    keys = drawing.keys
    room = len(str(keys.index_of(keys.cells - 1))) + 1
    line = ""
    for cell in keys.ticks(room, pitch):
        line = line.ljust(cell * pitch) + str(keys.index_of(cell))
    return line


def _rows(drawing: "Drawing", glyphs: dict[State, str], margin: int, pitch: int) -> list[str]:
    between = " " * (pitch - 1)
    pictured = [glyphs[State(number)] for number in sorted(State)]
    return [
        f"{drawing.queries.index_of(cell):>{margin}} " + between.join(pictured[state] for state in row)
        for cell, row in enumerate(drawing.states.tolist())
    ]
