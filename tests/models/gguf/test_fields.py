"""Fields have the types that they must have, and none is overlooked."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstock.errors import InvalidConfig, UnsupportedFeature
from headstock.models.gguf.cursor import Value
from headstock.models.gguf.fields import Fields


def fields(**values: Value) -> Fields:
    return Fields({f"a.{name}": value for name, value in values.items()}, "a")


@pytest.mark.parametrize("wrong", [0, -1, 2.0, True, "3", []])
def test_a_size_is_a_whole_number_of_at_least_one(wrong: Value) -> None:
    with pytest.raises(InvalidConfig, match=r"the GGUF field a\.x must be a whole number of at least 1, got "):
        fields(x=wrong).size("x")


def test_an_absent_size_is_named_or_has_its_default() -> None:
    assert fields().size("x", 3) == 3
    with pytest.raises(InvalidConfig, match=r"a\.x must be a whole number, got none"):
        fields().size("x")


def test_sizes_of_layers_are_one_where_they_are_the_same() -> None:
    assert fields(x=[4, 4]).size("x") == 4
    with pytest.raises(UnsupportedFeature, match=r"a\.x must be the same in all layers, got \[4, 2\]"):
        fields(x=[4, 2]).size("x")


def test_long_values_are_shown_in_part() -> None:
    with pytest.raises(UnsupportedFeature, match=r"got \[1, 2, 3, .{60,70} \.\.\.; such models"):
        fields(x=list(range(1, 10000))).size("x")


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf"), True, "3", None])
def test_a_number_is_positive_and_finite(wrong: Value) -> None:
    with pytest.raises(InvalidConfig, match=r"a\.x must be a positive number, got "):
        fields(x=wrong).number("x")


@given(digits=st.integers(1, 999999), exponent=st.integers(-9, 9))
def test_a_float32_is_read_as_the_decimal_that_was_written(digits: int, exponent: int) -> None:
    written = float(f"{digits}e{exponent}")
    stored = struct.unpack("<f", struct.pack("<f", written))[0]
    assert fields(x=stored).number("x") == written


@given(value=st.floats(1e-30, 1e30, allow_subnormal=False))
def test_any_number_keeps_its_float32_and_its_float64_where_it_has_more(value: float) -> None:
    found = fields(x=value).number("x")
    assert struct.pack("<f", found) == struct.pack("<f", value)
    if struct.unpack("<f", struct.pack("<f", value))[0] != value:
        assert found == value


def test_a_number_too_large_for_float32_is_kept() -> None:
    assert fields(x=1e300).number("x") == 1e300


def test_a_flag_is_true_or_false() -> None:
    assert fields(x=True).flag("x", default=False)
    assert fields().flag("x", default=True)
    with pytest.raises(InvalidConfig, match=r"a\.x must be true or false, got 1"):
        fields(x=1).flag("x", default=False)


def test_fields_that_nobody_asked_for_are_refused() -> None:
    found = fields(x=1, y="long" * 40)
    assert (found.get("x"), found.get("z")) == (1, None)
    with pytest.raises(UnsupportedFeature, match=r"known fields only, got a\.y = 'long.* \.\.\.; what it changes"):
        found.refuse_others()
    assert found.get("y")
    found.refuse_others()
