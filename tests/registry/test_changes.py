"""What changes beside the entries is counted."""

from typing import Any

import pytest

from headstock.errors import InvalidComponent
from headstock.registry import CHANGES, Changes, Overlay, Registry, declare
from headstock.registry.declaration import declaring


def test_each_note_makes_another_number() -> None:
    changes = Changes()
    seen = {changes.count}
    for _ in range(3):
        changes.note()
        seen.add(changes.count)
    assert len(seen) == 4


def test_a_declaration_is_a_change_and_so_is_its_end() -> None:
    def function() -> None: ...

    before = CHANGES.count
    declare(function, mask="dense")
    declared = CHANGES.count
    assert declared != before

    def another() -> None: ...

    with pytest.raises(InvalidComponent, match="refused"):
        _refused(another)
    # Once for the declaration and once for its end.
    assert CHANGES.count == declared + 2


def _refused(component: Any) -> None:
    with declaring(component, {"mask": "dense"}):
        raise InvalidComponent("refused")


def test_an_entry_is_no_such_change() -> None:
    table: Registry[Any] = Registry("function", builtins={"a": max})
    overlay = Overlay(table)
    before = CHANGES.count
    overlay["b"] = min
    del overlay["b"]
    assert CHANGES.count == before
