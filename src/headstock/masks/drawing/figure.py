"""A drawing as an image, by matplotlib's objects alone: no `pyplot`, no style of the user's, no date."""

from io import BytesIO
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch

from headstock.masks.drawing.axis import Axis
from headstock.masks.drawing.layout import CHARACTER, LINE, MARGIN, Layout, layout_of
from headstock.masks.drawing.package import matplotlib_package
from headstock.masks.drawing.states import State

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from headstock.masks.drawing.picture import Drawing

__all__ = ["COLOURS", "png_of", "svg_of"]

_DPI = 100
_RULED = 32  # cells a side; up to these, lines part them
# Blue and orange are told apart by every eye, and dark, light and white without any colour.
COLOURS = {State.EMPTY: "#ffffff", State.PARTLY: "#f0b04a", State.FULL: "#123a66", State.UNKNOWN: "#cccccc"}
_INK = "#222222"
_FONT = "DejaVu Sans"  # comes with matplotlib
_STYLE = {"font.family": [_FONT, "sans-serif"], "font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "headstock"}
_ONE_AT_A_TIME = Lock()


def png_of(drawing: "Drawing") -> bytes:
    """PNG, as large as its cells need."""
    return _saved(drawing, "png", {"Software": None, "Title": drawing.title})


def svg_of(drawing: "Drawing") -> str:
    """SVG, its texts as text and its cells as one shape for each state."""
    return _saved(drawing, "svg", {"Creator": None, "Date": None, "Title": drawing.title}).decode()


def _saved(drawing: "Drawing", form: str, metadata: dict[str, str | None]) -> bytes:
    matplotlib_package()
    from matplotlib import style

    buffer = BytesIO()
    # The settings are the process's: its own defaults for as long as one image takes, then what they were.
    with _ONE_AT_A_TIME, style.context(["default", _STYLE]):
        _figure(drawing).savefig(buffer, format=form, metadata=metadata)
    return buffer.getvalue()


def _figure(drawing: "Drawing") -> "Figure":
    from matplotlib.figure import Figure

    layout = layout_of(drawing)
    figure = Figure(figsize=(layout.width / _DPI, layout.height / _DPI), dpi=_DPI, facecolor="white")
    for number, line in enumerate(layout.title):
        y = 1 - (MARGIN + LINE * number) / layout.height
        figure.text(MARGIN / layout.width, y, _drawable(line), va="top", color=_INK, parse_math=False)
    axes = _axes(figure, drawing, layout)
    for state in (State.PARTLY, State.FULL, State.UNKNOWN):
        _fill(axes, drawing, state)
    _legend(figure, drawing)
    return figure


def _drawable(line: str) -> str:
    """The line with a question mark for each character that the font has no shape of."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont(_FONT))
    return "".join(each if font.get_char_index(ord(each)) else "?" for each in line)


def _axes(figure: "Figure", drawing: "Drawing", layout: Layout) -> "Axes":
    queries, keys = drawing.queries, drawing.keys
    high, wide = max(queries.cells * layout.cell, 1), max(keys.cells * layout.cell, 1)
    bottom = layout.height - layout.top - high
    box = (layout.left / layout.width, bottom / layout.height, wide / layout.width, high / layout.height)
    axes = figure.add_axes(box, facecolor=COLOURS[State.EMPTY])
    axes.spines[:].set_visible(False)
    _frame(figure, layout, wide, high)
    axes.set_xlim(0, max(keys.cells, 1))
    axes.set_ylim(max(queries.cells, 1), 0)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("keys", color=_INK)
    axes.set_ylabel("queries", color=_INK)
    _label(axes.set_xticks, keys, CHARACTER * (len(str(keys.first + keys.length)) + 1), layout.cell)
    _label(axes.set_yticks, queries, LINE, layout.cell)
    axes.tick_params(colors=_INK, length=3)
    if max(queries.cells, keys.cells) <= _RULED:
        _rule(axes, drawing)
    return axes


def _frame(figure: "Figure", layout: Layout, wide: int, high: int) -> None:
    """A line of one pixel around the cells, over none of them."""
    from matplotlib.patches import Rectangle

    corner = ((layout.left - 0.5) / layout.width, 1 - (layout.top + high + 0.5) / layout.height)
    sides = ((wide + 1) / layout.width, (high + 1) / layout.height)
    figure.add_artist(Rectangle(corner, *sides, fill=False, edgecolor=_INK, linewidth=72 / _DPI))


def _label(set_ticks: Any, axis: Axis, room: int, pitch: int) -> None:
    """The first index of cells: amid the cell where it is the only one, at its edge otherwise."""
    cells = axis.ticks(room, pitch)
    middle = 0.5 if axis.cell == 1 else 0.0
    set_ticks([cell + middle for cell in cells], [str(axis.index_of(cell)) for cell in cells])


def _rule(axes: "Axes", drawing: "Drawing") -> None:
    axes.vlines(range(1, drawing.keys.cells), 0, drawing.queries.cells, colors="#999999", linewidth=0.4, zorder=3)
    axes.hlines(range(1, drawing.queries.cells), 0, drawing.keys.cells, colors="#999999", linewidth=0.4, zorder=3)


def _fill(axes: "Axes", drawing: "Drawing", state: State) -> None:
    """The cells of one state as one shape, a rectangle for each stretch of them in a row."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    corners = _corners(drawing, state)
    if not len(corners):
        return
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * len(corners)
    path = Path(corners.reshape(-1, 2).numpy(), codes)
    patch = PathPatch(path, gid=state.name.lower(), zorder=2, **_look(state))
    axes.add_patch(patch)


def _look(state: State) -> dict[str, Any]:
    if state == State.UNKNOWN:
        return {"facecolor": COLOURS[state], "edgecolor": "#666666", "hatch": "////", "linewidth": 0}
    return {"facecolor": COLOURS[state], "linewidth": 0}


def _corners(drawing: "Drawing", state: State) -> torch.Tensor:
    """`[stretches, 5, 2]`: the corners of each, the first one again at the end, as (column, row)."""
    marked = torch.nn.functional.pad((drawing.states == state).to(torch.int8), (1, 1))
    steps = marked.diff(dim=-1)
    # The n-th beginning and the n-th end belong together, since stretches of a row do not overlap.
    row, begin = (steps == 1).nonzero().unbind(-1)
    end = (steps == -1).nonzero()[:, 1]
    columns = torch.stack([begin, end, end, begin, begin], dim=-1)
    rows = torch.stack([row, row, row + 1, row + 1, row], dim=-1)
    return torch.stack([columns, rows], dim=-1).double()


def _legend(figure: "Figure", drawing: "Drawing") -> None:
    from matplotlib.patches import Patch

    handles = []
    for state, meaning in drawing.legend.items():
        handles.append(Patch(**(_look(state) | {"edgecolor": _INK, "linewidth": 0.6}), label=meaning))
    figure.legend(handles=handles, loc="lower left", ncols=len(handles), frameon=False, labelcolor=_INK)
