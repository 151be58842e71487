"""Where the parts of an image stand."""

from hypothesis import given
from hypothesis import strategies as st

from headstock.masks import Geometry, causal, draw, sliding_window
from headstock.masks.drawing.layout import layout_of


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 400), st.integers(0, 10**9))
def test_everything_lies_on_the_image(queries: int, keys: int, size: int, offset: int) -> None:
    drawing = draw(causal(), Geometry(1, queries, keys, q_offset=offset), size=size)
    layout = layout_of(drawing)
    assert layout.left + drawing.keys.cells * layout.cell < layout.width
    assert layout.top + drawing.queries.cells * layout.cell < layout.height
    assert 1 <= layout.cell <= 24


def test_many_cells_share_the_picture_and_few_are_large() -> None:
    assert [layout_of(draw(causal(), Geometry(1, 4096, 4096), size=size)).cell for size in (16, 64, 256, 4096)] == [
        24,
        10,
        2,
        1,
    ]


def test_the_title_is_above_the_picture_and_cut_where_it_is_endless() -> None:
    mask = causal()
    short = layout_of(draw(mask, Geometry(1, 4, 4)))
    assert short.title == ("causal()", "queries 0..3 down, keys 0..3 across")
    for size in range(2, 100):
        mask &= sliding_window(size)
    long = layout_of(draw(mask, Geometry(1, 4, 4)))
    assert len(long.title) == 7
    assert long.title[5].endswith(" ...")
    assert long.top == short.top + 5 * 20
