"""`headstock mask`: what it draws, what it tells, what it refuses."""

import io
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headstock.cli.mask import Request, tensors_of
from headstock.errors import InvalidConfig
from headstock.masks import Geometry, Mask, causal, documents, draw, plan, sliding_window, to_dense
from tests.support.command import Command, Done


def test_the_picture_then_the_facts(command: Command) -> None:
    assert command("mask", "causal & sliding_window(4)", "--queries", "4", "--keys", "6", "--q-offset", "2") == Done(
        0,
        "causal() & sliding_window(size=4)\n"
        "queries 2..5 down, keys 0..5 across\n"
        "\n"
        "  0 1 2 3 4 5\n"
        "2 █ █ █ · · ·\n"
        "3 █ █ █ █ · ·\n"
        "4 · █ █ █ █ ·\n"
        "5 · · █ █ █ █\n"
        "\n"
        "█ visible   · hidden\n"
        "\n"
        "visible     15 of 24 pairs, 62.50%\n"
        "block plan  0 full, 1 partial and 0 empty blocks of 128 x 128; density 1\n"
        "SDPA gets   a boolean mask, 4 x 6: 24 bytes\n",
        "",
    )


def test_keys_end_with_the_last_query_where_nothing_is_said(command: Command) -> None:
    lines = command("mask", "causal", "--queries", "2", "--q-offset", "7", "--kv-offset", "4").out.splitlines()
    assert lines[1] == "queries 7..8 down, keys 4..8 across"
    assert command("mask", "causal").out.splitlines()[1] == "queries 0..15 down, keys 0..15 across"
    assert command("mask", "causal", "--kv-offset", "50").out.splitlines()[1] == "queries 0..15 down, no keys across"


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("causal", "is_causal=True and no mask"),
        ("bidirectional", "no mask, since it hides nothing"),
        ("causal & sliding_window(500)", "is_causal=True and no mask"),
        ("causal & sliding_window(3)", "a boolean mask, 300 x 300: 90,000 bytes"),
    ],
)
def test_what_sdpa_gets(command: Command, text: str, given: str) -> None:
    assert command("mask", text, "--queries", "300").out.splitlines()[-1] == f"SDPA gets   {given}"


@pytest.mark.parametrize("block_size", [1, 7, 64, 500])
def test_the_figures_are_those_of_the_plan_and_of_the_dense_mask(command: Command, block_size: int) -> None:
    mask, geometry = causal() & sliding_window(90), Geometry(1, 201, 301, q_offset=100)
    asked = ("--queries", "201", "--q-offset", "100", "--block-size", str(block_size))
    lines = command("mask", "causal & sliding_window(90)", *asked).out.splitlines()
    count = int(to_dense(mask, geometry).sum())
    assert lines[-3] == f"visible     {count:,} of 60,501 pairs, {count / 60_501:.2%}"
    blocks = plan(mask, geometry, block_size)
    full, partial = int(blocks.full.sum()), int(blocks.partial.sum())
    assert lines[-2] == (
        f"block plan  {full:,} full, {partial:,} partial and {blocks.full.numel() - full - partial:,} empty blocks of "
        f"{block_size} x {block_size}; density {blocks.density:.4g}"
    )


def test_many_pairs_are_counted_between_bounds(command: Command) -> None:
    length = 100_000
    asked = ("--queries", str(length), "--size", "4", "--block-size", "64")
    line = command("mask", "causal & sliding_window(4096)", *asked).out.splitlines()[-3]
    low, high = (int(line.split()[place].replace(",", "")) for place in (1, 3))
    # Query i sees min(i + 1, 4096) keys.
    visible = 4096 * 4097 // 2 + (length - 4096) * 4096
    assert low <= visible <= high
    # Two blocks of each row of them are partial.
    assert high - low <= 2 * 64 * length
    assert line.endswith(f"of 10,000,000,000 pairs, at most {high / length**2:.2%}")


def test_no_pairs_have_no_share(command: Command) -> None:
    lines = command("mask", "causal", "--queries", "0", "--keys", "4").out.splitlines()
    assert lines[3:] == [
        "nothing to draw",
        "",
        "visible     no pairs",
        "block plan  0 full, 0 partial and 0 empty blocks of 128 x 128; density 0",
        "SDPA gets   no mask, since it hides nothing",
    ]


def test_tensors_come_in_by_name(command: Command) -> None:
    done = command(
        "mask",
        "causal & documents(ids) & padding(keep)",
        *("--queries", "4", "--tensor", "ids=0,0,1,1", "--tensor", "keep=true, True,false,true"),
    )
    assert done.out.splitlines()[3:8] == ["  0 1 2 3", "0 █ · · ·", "1 █ █ · ·", "2 · · · ·", "3 · · · █"]


@given(st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1)), min_size=1), st.booleans())
def test_tensors_are_read_as_they_are_written(values: list[int], spaced: bool) -> None:
    text = (", " if spaced else ",").join(map(str, values))
    assert torch.equal(tensors_of((f"ids={text}",))["ids"], torch.tensor([values]))


@pytest.mark.parametrize(
    "text", ["ids", "ids=", "=1,2", "1ids=1", "ids=1,true", "ids=true,1", "ids=1.5", "ids=1,,2", f"ids={2**64}"]
)
def test_a_tensor_written_otherwise_is_refused(command: Command, text: str) -> None:
    rule = r"^--tensor must be a name and its integers, or its true and false, got '.*'; write it like ids=0,0,1,1"
    with pytest.raises(InvalidConfig, match=rule):
        tensors_of((text,))
    done = command("mask", "documents(ids)", "--tensor", text)
    assert (done.status, done.out) == (2, "")
    assert f"got {text!r}" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["causl"], "mask pattern must be one of 'bidirectional', "),
        (["causl"], "got 'causl'; did you mean 'causal'?"),
        (["causal & (sliding_window(4)"], "'(' was never closed at '(sliding_window(4)'"),
        (["causal)"], "a mask's text must join patterns by &, | and ~, got 'causal)'"),
        ([""], "a mask's text must have 1 to 10000 characters, got ''"),
        (["sliding_window(0)"], "sliding_window's size must be an integer of at least 1, got 0"),
        (["documents(ids)"], "a mask's text must name values that are given (there are: none)"),
        (["documents(ids)", "--tensor", "ids=0,1"], "documents's ids must"),
    ],
)
def test_a_mask_that_is_refused_ends_with_2_and_the_library_s_words(
    command: Command, arguments: list[str], said: str
) -> None:
    done = command("mask", *arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert said in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("option", ["--queries=-1", "--keys=-1", "--q-offset=-1", "--block-size=0", "--size=0"])
def test_numbers_out_of_range_are_refused(command: Command, option: str) -> None:
    done = command("mask", "causal", option)
    assert done.status == 2
    assert option.partition("=")[0] in done.err


def test_images_are_written_beside_the_text(command: Command, tmp_path: Path) -> None:
    svg, png = tmp_path / "x.svg", tmp_path / "x.image"
    done = command("mask", "causal", "--queries", "40", "--size", "8", "--svg", str(svg), "--png", str(png))
    expected = draw(causal(), Geometry(1, 40, 40), size=8)
    assert done.out.startswith(str(expected))
    assert svg.read_text(encoding="utf-8") == expected.svg()
    assert png.read_bytes() == expected.png()


def test_an_image_that_cannot_be_written_is_said(command: Command, tmp_path: Path) -> None:
    done = command("mask", "causal", "--svg", str(tmp_path / "none" / "x.svg"))
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        f"error: an image must go to a file that can be written, got {str(tmp_path / 'none' / 'x.svg')!r}: "
        "No such file or directory; name a file in a folder that exists\n"
    )


def test_without_matplotlib_text_is_drawn_and_an_image_names_the_extra(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert command("mask", "causal").status == 0
    done = command("mask", "causal", "--png", str(tmp_path / "x.png"))
    assert (done.status, done.out) == (1, "")
    assert "pip install 'headstock[draw]'" in done.err


def test_an_output_without_block_characters_gets_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    from headstock.cli.mask import run

    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", narrow)
        assert run(Request(text="causal", queries=2)) == 0
    narrow.seek(0)
    assert "0 # .\n1 # #\n\n# visible   . hidden\n" in narrow.read()


def test_the_text_is_read_as_the_library_reads_it(command: Command) -> None:
    text = "causal & (sliding_window(2) | ~chunked(3)) | global_tokens([5])"
    assert command("mask", text).out.startswith(str(draw(Mask.parse(text), Geometry(1, 16, 16))))
    ids = torch.tensor([[0, 0, 1]])
    drawn = command("mask", "documents(ids)", "--queries", "3", "--tensor", "ids=0,0,1").out
    assert drawn.startswith(str(draw(documents(ids), Geometry(1, 3, 3))))
