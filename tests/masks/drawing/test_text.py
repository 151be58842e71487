"""The picture in text, read back and as it stands."""

import torch
from hypothesis import given

from headstock.masks import Geometry, Mask, causal, draw, sliding_window
from tests.support.drawing import Shown, of_text, shown


@given(shown(most=80))
def test_the_text_shows_the_states(example: Shown) -> None:
    drawing = draw(example.case.mask, example.case.geometry, **example.arguments)  # type: ignore[arg-type]
    for text in (str(drawing), drawing.text(ascii_only=True)):
        if drawing.states.numel():
            assert torch.equal(of_text(text, drawing.keys.cells), drawing.states)
        assert not any(line != line.rstrip() for line in text.splitlines())


def test_pairs_with_absolute_indices() -> None:
    drawing = draw(causal() & sliding_window(4), Geometry(1, 4, 12, q_offset=8))
    assert str(drawing) == (
        "causal() & sliding_window(size=4)\n"
        "queries 8..11 down, keys 0..11 across\n"
        "\n"
        "   0   2   4   6   8   10\n"
        " 8 · · · · · █ █ █ █ · · ·\n"
        " 9 · · · · · · █ █ █ █ · ·\n"
        "10 · · · · · · · █ █ █ █ ·\n"
        "11 · · · · · · · · █ █ █ █\n"
        "\n"
        "█ visible   · hidden"
    )


def test_cells_of_many_pairs() -> None:
    drawing = draw(causal() & sliding_window(32_768), Geometry(1, 131_072, 131_072), size=8)
    assert str(drawing) == (
        "causal() & sliding_window(size=32768)\n"
        "queries 0..131071 down, keys 0..131071 across; a cell is 16384 x 16384 pairs\n"
        "\n"
        "       0       65536\n"
        "     0 ▒ · · · · · · ·\n"
        " 16384 █ ▒ · · · · · ·\n"
        " 32768 ▒ █ ▒ · · · · ·\n"
        " 49152 · ▒ █ ▒ · · · ·\n"
        " 65536 · · ▒ █ ▒ · · ·\n"
        " 81920 · · · ▒ █ ▒ · ·\n"
        " 98304 · · · · ▒ █ ▒ ·\n"
        "114688 · · · · · ▒ █ ▒\n"
        "\n"
        "█ all visible   ▒ some visible   · none visible"
    )


def test_plain_characters_on_request() -> None:
    text = draw(causal(), Geometry(1, 6, 6), size=3).text(ascii_only=True)
    assert text.isascii()
    assert text.endswith("0 + . .\n2 # + .\n4 # # +\n\n# all visible   + some visible   . none visible")


def test_many_columns_stand_close() -> None:
    rows = str(draw(causal(), Geometry(1, 2, 40))).splitlines()[3:6]
    assert rows == ["  0   4   8   12  16  20  24  28  32  36", "0 █" + "·" * 39, "1 ██" + "·" * 38]


def test_several_batch_rows_and_heads_are_named() -> None:
    geometry = Geometry(2, 1, 3, q_offset=torch.tensor([0, 2]), heads=4)
    second = str(draw(causal(), geometry, batch_row=1, head=3)).splitlines()
    assert second[1] == "batch row 1, head 3; query 2 down, keys 0..2 across"
    assert second[4] == "2 █ █ █"
    assert str(draw(causal(), geometry)).splitlines()[4] == "0 █ · ·"


def test_no_pairs_are_said_to_be_none() -> None:
    text = str(draw(causal(), Geometry(1, 0, 3)))
    assert text == "causal()\nno queries down, keys 0..2 across\n\nnothing to draw"


def test_what_is_not_known_is_in_the_legend() -> None:
    def hides_in_the_middle(b: object, h: object, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
        return (i * 1.0 == 999.0) & (j * 1.0 == 999.0)

    text = str(draw(hides_in_the_middle, Geometry(1, 131_072, 131_072), size=2))
    assert text.endswith("    0 ? ?\n65536 ? ?\n\n█ all visible   ▒ some visible   · none visible   ? not known")


def test_a_long_title_is_broken_between_words() -> None:
    mask = Mask(causal().predicate)
    for size in range(2, 12):
        mask &= sliding_window(size)
    title = str(draw(mask, Geometry(1, 2, 2))).split("\nqueries")[0]
    assert max(map(len, title.splitlines())) <= 79
    assert " ".join(title.splitlines()) == repr(mask)
