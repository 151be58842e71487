"""The text form: what a mask prints is read again, everything else is refused, nothing is evaluated."""

import contextlib
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headstock.errors import HeadstockError, InvalidConfig, UnknownName
from headstock.masks import (
    Geometry,
    Mask,
    MaskPatternInterface,
    causal,
    first_tokens,
    global_tokens,
    padding,
    sliding_window,
)
from headstock.masks.predicate import patterns_of
from tests.support.masks import expressions

KEEP = torch.tensor([[True, False, True]])


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("causal", causal()),
        (" causal() ", causal()),
        ("causal & (sliding_window(512) | first_tokens(4))", causal() & (sliding_window(512) | first_tokens(4))),
        ("causal | first_tokens(4) & sliding_window(5, right=2)", causal() | first_tokens(4) & sliding_window(5, 2)),
        ("~(causal & ~sliding_window(size=3))", ~(causal() & ~sliding_window(3))),
        ("global_tokens([0, 3]) | global_tokens((5,))", global_tokens([0, 3]) | global_tokens([5])),
        ("causal &\n sliding_window(3)", causal() & sliding_window(3)),
    ],
)
def test_reads_as_python_would(text: str, mask: Mask) -> None:
    assert Mask.parse(text) == mask


def test_values_come_in_by_name() -> None:
    assert Mask.parse("causal & padding(keep)", {"keep": KEEP}) == causal() & padding(KEEP)
    assert Mask.parse("causal & mine", {"mine": padding(KEEP)}) == causal() & padding(KEEP)


def test_the_patterns_may_be_those_of_another_table() -> None:
    local = MaskPatternInterface()
    local["causal"] = lambda: sliding_window(7)
    assert Mask.parse("causal", patterns=local) == sliding_window(7)
    assert Mask.parse("near", patterns={"near": lambda: sliding_window(2)}) == sliding_window(2)


@given(st.data())
def test_what_a_mask_prints_is_read_again(data: st.DataObject) -> None:
    mask = data.draw(expressions(Geometry(2, 3, 3), functions=False))[0]
    text, values = repr(mask), dict[str, object]()
    for pattern in patterns_of(mask.predicate):
        for tensor in pattern.tensors():
            shown = f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
            name = f"value{len(values)}"
            text, values[name] = text.replace(shown, name, 1), tensor
    assert Mask.parse(text, values) == mask


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "causal &",
            r"must join patterns by &, \| and ~, got 'causal &': invalid syntax .*; write it like 'causal & \(",
        ),
        ("causal & sliding_window(", r"got 'causal & sliding_window\(': '\(' was never closed at '\('; write"),
        ("causal)", r"got 'causal\)': unmatched '\)' at '\)'; write"),
        ("causal causal", r"got 'causal causal': invalid syntax"),
        ("causal + causal", r"must join patterns by &, \| and ~, got 'causal \+ causal' in 'causal \+ causal'; write"),
        ("causal & not causal", r"got 'causal & not causal'"),
        ("causal < causal", r"must join patterns by &, \| and ~, got 'causal < causal'"),
        ("causal if causal else causal", r"must join patterns by &, \| and ~"),
        ("causal.__class__", r"must join patterns by &, \| and ~, got 'causal.__class__' in"),
        ("(lambda: 1)()", r"must join patterns by &, \| and ~"),
        ("causal()()", r"must join patterns by &, \| and ~"),
        ("1", r"must join patterns by &, \| and ~, got '1' in '1'"),
        ("causal(**{})", r"must join patterns by &, \| and ~"),
        ("sliding_window(4", r"'\(' was never closed"),
        ("sliding_window()", r"must give sliding_window its arguments, got .*; missing 1 required positional argument"),
        ("sliding_window(4, left=2)", "must give sliding_window its arguments, got .*; got an unexpected keyword"),
        ("causal(3)", "must give causal its arguments"),
        ("sliding_window('4')", r"must have integers, lists of them or named values as arguments, got \"'4'\" in"),
        ("sliding_window(True)", "must have integers, lists of them or named values as arguments, got 'True' in"),
        ("sliding_window(2.5)", "must have integers, .* got '2.5' in"),
        ("sliding_window(2 + 2)", r"must have integers, .* got '2 \+ 2' in .*; give others by name"),
        ("sliding_window(*[4])", r"must have integers, .* got '\*\[4\]' in"),
        ("sliding_window(open('x'))", "must have integers, "),
        ("padding(keep)", r"must name values that are given \(there are: none\), got 'keep' in .*; give one: keep=..."),
        ("sliding_window(-4)", "sliding_window's size must be an integer of at least 1, got -4; size counts"),
        ("", "must have 1 to 10000 characters, got ''; write it like 'causal'"),
        (" ", "must have 1 to 10000 characters, got ' '; "),
        (None, "must have 1 to 10000 characters, got None; "),
        ("causal" + " " * 10_000, r"must have 1 to 10000 characters, got 'causal .*\.\.\.; "),
        ("~" * 5000 + "causal", "must be nested less deeply and hold no null characters, got 5006 characters; put the"),
        ("&".join(["causal"] * 1400), "must be nested less deeply and hold no null characters, got 9799 characters; "),
        ("(" * 300 + "causal" + ")" * 300, "too many nested parentheses"),
    ],
)
def test_anything_else_is_refused(text: Any, error: str) -> None:
    with pytest.raises(InvalidConfig, match=error):
        Mask.parse(text)


def test_an_unknown_pattern_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match=r"sliding_window.* got 'sliding_windw'; did you mean 'sliding_window'"):
        Mask.parse("causal & sliding_windw(4)")


def test_a_text_is_not_read_while_compiling() -> None:
    def masked(scores: torch.Tensor) -> torch.Tensor:
        return scores.where(Mask.parse("causal")(0, 0, 0, scores), 0.0)

    with pytest.raises(Exception, match=r"a mask's text must be read before compiling, got 'causal'; make `Mask.parse"):
        torch.compile(masked, fullgraph=True, backend="eager")(torch.arange(4.0))


@given(st.text(alphabet="causl_window()&|~ ,=[]0123\0\n'\"*.:", max_size=40))
def test_any_text_is_a_mask_or_refused(text: str) -> None:
    with contextlib.suppress(HeadstockError):
        assert isinstance(Mask.parse(text), Mask)
