"""Checks decide, tables show."""

import io
import math

import pytest
from rich.console import Console

from headstock.cli.demo.report import Check, Report


def report() -> Report:
    return Report(Console(file=io.StringIO(), width=120, color_system=None))


def printed(told: Report) -> str:
    assert isinstance(told.console.file, io.StringIO)
    return told.console.file.getvalue()


@pytest.mark.parametrize(
    ("value", "below", "holds"),
    [(1.0, True, True), (1.1, True, False), (1.0, False, False), (1.1, False, True), (math.nan, True, False)],
)
def test_a_check_holds_at_its_limit_and_below(value: float, below: bool, holds: bool) -> None:
    assert Check("x", value, 1.0, "why", below).holds is holds


def test_a_nan_is_above_nothing() -> None:
    assert not Check("x", math.nan, 1.0, "why", below=False).holds


def test_all_checks_hold() -> None:
    told = report()
    told.check("a", 1e-6, 2e-6, "rounding")
    told.check("b", 3.0, 2.0, "it moved", below=False)
    assert told.finish()
    assert "2 of 2 checks hold" in printed(told)
    assert "at most 2e-06" in printed(told)
    assert "above 2" in printed(told)


def test_one_check_that_fails_is_shown_twice_and_decides() -> None:
    told = report()
    told.check("good", 1.0, 2.0, "a")
    told.check("bad", 3.0, 2.0, "b")
    assert not told.finish()
    assert printed(told).count("FAILS") == 2
    assert printed(told).count("good") == 1
    assert "1 of 2 checks hold" in printed(told)


def test_a_chapter_begins_after_the_checks_of_the_one_before() -> None:
    told = report()
    told.chapter("First", "one")
    told.check("in the first", 1.0, 2.0, "a")
    told.chapter("Second", "two")
    told.finish()
    text = printed(told)
    assert text.index("First") < text.index("in the first") < text.index("Second")
    assert text.count("in the first") == 1


def test_what_takes_long_is_named_with_its_time() -> None:
    told = report()
    with told.working("thinking"):
        assert "thinking" not in printed(told)
    assert "thinking: 0.0 s" in printed(told)


def test_a_table_has_its_rows() -> None:
    told = report()
    told.table("numbers", ["name", "value"], [["a", "1"], ["b", "2"]])
    assert all(each in printed(told) for each in ("numbers", "name", "a", "2"))
