"""`draw`: a mask as a picture that can be printed, saved and shown."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from jaxtyping import UInt8
from torch import Tensor

from headstock.errors import InvalidConfig, MissingDependency
from headstock.masks.contract import Device, MaskLike
from headstock.masks.drawing.axis import Axis, axis_of
from headstock.masks.drawing.states import State, View, states_of
from headstock.masks.drawing.text import text_of
from headstock.masks.geometry import Geometry, offset_of
from headstock.masks.lowering import Lowering

__all__ = ["Drawing", "draw"]

_MOST_CELLS = 4096


@final
@dataclass(frozen=True, eq=False, repr=False)
class Drawing:
    """A picture of one batch row and head of a mask, queries down and keys across; made by `draw`.

    `str(drawing)` is the picture in text, `svg()` and `png()` are images (with the extra `draw`), and a notebook shows
    the first of them by itself.

    Attributes:
        title: the mask, as it is written.
        place: which batch row and head, where there are several; `""` otherwise.
        queries, keys: the absolute indices on the two sides, and how many of them a cell holds.
        states: what each cell shows, the numbers of `State`: 0 none of its pairs, 1 some of them, 2 all of them,
            3 not known. The last is rare: a predicate that intervals say nothing of, over very many pairs.
    """

    title: str
    place: str
    queries: Axis
    keys: Axis
    states: UInt8[Tensor, "rows columns"]

    @property
    def extent(self) -> str:
        """The sides in words."""
        parts = [self.place] if self.place else []
        parts.append(f"{self.queries} down, {self.keys} across")
        if not self.shows_pairs:
            parts.append(f"a cell is {self.queries.cell} x {self.keys.cell} pairs")
        return "; ".join(parts)

    @property
    def shows_pairs(self) -> bool:
        """Whether a cell is one query and one key."""
        return self.queries.cell == self.keys.cell == 1

    @property
    def legend(self) -> dict[State, str]:
        """What the states that occur, or could, mean."""
        if self.shows_pairs:
            words = {State.FULL: "visible", State.EMPTY: "hidden"}
        else:
            words = {State.FULL: "all visible", State.PARTLY: "some visible", State.EMPTY: "none visible"}
        unknown = {State.UNKNOWN: "not known"} if bool((self.states == State.UNKNOWN).any()) else {}
        return words | unknown

    def text(self, *, ascii_only: bool = False) -> str:
        """The picture in text; with `ascii_only` for terminals without block characters."""
        return text_of(self, ascii_only=ascii_only)

    def svg(self) -> str:
        """The picture as SVG, the same characters for the same mask.

        Raises:
            MissingDependency: matplotlib, the extra `draw`, is not installed.
        """
        from headstock.masks.drawing.figure import svg_of

        return svg_of(self)

    def png(self) -> bytes:
        """The picture as PNG, the same bytes for the same mask.

        Raises:
            MissingDependency: matplotlib, the extra `draw`, is not installed.
        """
        from headstock.masks.drawing.figure import png_of

        return png_of(self)

    def save(self, path: str | Path) -> None:
        """Write the picture in the form that the path's suffix names: `.txt`, `.svg` or `.png`.

        Raises:
            InvalidConfig: it has another suffix.
            MissingDependency: matplotlib, the extra `draw`, is not installed, and an image is asked for.
        """
        forms: dict[str, Callable[[], bytes]] = {
            ".txt": f"{self}\n".encode,
            ".svg": lambda: self.svg().encode(),
            ".png": self.png,
        }
        suffix = Path(path).suffix.lower()
        if suffix not in forms:
            raise InvalidConfig(
                f"a drawing's file must end in {', '.join(forms)}, got {str(path)!r}; name the form by the suffix"
            )
        Path(path).write_bytes(forms[suffix]())

    def _repr_svg_(self) -> str | None:
        try:
            return self.svg()
        except MissingDependency:
            return None

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        rows, columns = self.states.shape
        return f"Drawing({self.title}, {rows} x {columns} cells of {self.queries.cell} x {self.keys.cell} pairs)"


def draw(
    mask: MaskLike | Lowering,
    geometry: Geometry,
    *,
    batch_row: int = 0,
    head: int = 0,
    size: int | tuple[int, int] = 64,
    device: Device = None,
) -> Drawing:
    """Draw one batch row and head of a mask over a geometry.

    A cell of the picture is one pair as long as they are few, and a rectangle of pairs where they are not. Such cells
    are found by planning, so that millions of tokens take a moment and little memory. What is drawn is true: every
    pair of a cell is hidden where it is drawn empty and visible where it is drawn full, and there are pairs of both
    kinds where it is drawn as partly visible.

    Args:
        mask: what may attend to what, in any form that `prepare` takes.
        geometry: over which queries and keys.
        batch_row: which row of the batch.
        head: which head.
        size: the most cells along a side, or along the queries and along the keys; up to 4096.
        device: where pairs are evaluated, should that be needed and the mask have no tensors.

    Raises:
        InvalidConfig: there is no such batch row or head, or `size` is none of these.
        InvalidShape: the mask does not fit the geometry.
        InvalidComponent: the mask is a function that returns something else than a boolean, or raises.
        InvalidConfig, UnknownName: as `Mask.parse` of a text.
        UnsupportedFeature: the mask is a tensor of numbers that say more than "may attend" and "may not".

    >>> from headstock.masks import causal, sliding_window
    >>> print(draw(causal() & sliding_window(3), Geometry(1, q_length=5, kv_length=8, q_offset=3)))
    causal() & sliding_window(size=3)
    queries 3..7 down, keys 0..7 across
    <BLANKLINE>
      0 1 2 3 4 5 6 7
    3 · █ █ █ · · · ·
    4 · · █ █ █ · · ·
    5 · · · █ █ █ · ·
    6 · · · · █ █ █ ·
    7 · · · · · █ █ █
    <BLANKLINE>
    █ visible   · hidden
    """
    lowering = Lowering.of(mask, geometry, device)
    _check_index("batch_row", batch_row, geometry.batch_size)
    _check_index("head", head, geometry.heads)
    rows, columns = _sides(size)
    queries = axis_of("queries", _first(geometry.q_offset, batch_row), geometry.q_length, rows)
    keys = axis_of("keys", _first(geometry.kv_offset, batch_row), geometry.kv_length, columns)
    view = View(lowering.mask, geometry, batch_row, head, queries, keys, lowering.device)
    return Drawing(repr(lowering.mask), _place(view), queries, keys, states_of(view))


def _place(view: View) -> str:
    """Which batch row and head it is, where there are several."""
    row = [f"batch row {view.batch_row}"] if view.geometry.batch_size > 1 else []
    return ", ".join([*row, f"head {view.head}"] if view.geometry.heads > 1 else row)


def _first(offset: int | Tensor, batch_row: int) -> int:
    return int(offset_of(offset, batch_row))


def _check_index(name: str, value: Any, count: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
        raise InvalidConfig(
            f"{name} must be an integer from 0 to {count - 1}, got {value!r}; name one that the geometry has"
            if count
            else f"{name} must be one that the geometry has, got {value!r} and a geometry without any; draw another one"
        )


def _sides(size: Any) -> tuple[int, int]:
    sides: Any = (size, size) if isinstance(size, int) else size
    if not (
        isinstance(sides, tuple)
        and len(sides) == 2
        and all(isinstance(each, int) and not isinstance(each, bool) and 0 < each <= _MOST_CELLS for each in sides)
    ):
        raise InvalidConfig(
            f"size must be an integer from 1 to {_MOST_CELLS} or two of them (queries, keys), got {size!r}; 64 is usual"
        )
    rows, columns = sides
    return rows, columns
