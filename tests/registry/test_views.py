from collections.abc import ItemsView, KeysView, ValuesView

from headstock.registry import Overlay
from tests.support.registry import adds, minus_one, plus_one, shared_table


def test_views_are_live() -> None:
    local = Overlay(shared_table())
    keys, values, items = local.keys(), local.values(), local.items()
    local["three"] = plus_one
    assert (len(keys), len(values), len(items)) == (3, 3, 3)
    assert "three" in keys
    assert plus_one in values
    assert ("three", plus_one) in items
    with local.override(three=minus_one, four=minus_one):
        assert list(keys) == ["one", "two", "three", "four"]
        assert minus_one in values
        assert plus_one not in values
        assert ("three", plus_one) not in items
        assert ("four", plus_one) not in items
    assert list(items)[-1] == ("three", plus_one)


def test_an_iteration_holds_while_entries_come_and_go() -> None:
    local = Overlay(shared_table(), {"mine": plus_one})
    seen = []
    for name, entry in local.items():
        local.pop("mine", None)
        local[f"new {name}"] = minus_one
        seen.append((name, entry))
    assert [name for name, _ in seen] == ["one", "two", "mine"]
    assert seen[-1][1] is plus_one
    for _ in local.values():
        local["another"] = plus_one


def test_they_are_the_views_of_a_mapping() -> None:
    local = Overlay(shared_table())
    assert isinstance(local.keys(), KeysView)
    assert isinstance(local.values(), ValuesView)
    assert isinstance(local.items(), ItemsView)
    assert local.keys() & {"one", "three"} == {"one"}
    assert local.items() - {("one", local["one"])} == {("two", local["two"])}


def test_tables_are_equal_when_their_items_are() -> None:
    table = shared_table()
    first, second = Overlay(table), Overlay(table)
    assert first == second == table == dict(table)
    first["one"] = adds(10)
    assert first != second
    with first.override(one=table["one"]):
        assert first == second
