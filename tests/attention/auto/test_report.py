"""Names in a column, what is said of them beside it."""

from headstock.attention.auto.report import lines, listed


def test_the_names_stand_in_a_column() -> None:
    assert lines([("sdpa", "first"), ("blocked", "second")]) == "sdpa     first\nblocked  second"
    assert listed({"a": ("one", "two"), "bcd": ("three",)}) == "a    one; two\nbcd  three"
    assert listed({}) == ""
