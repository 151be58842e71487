from typing import Any

import pytest
from torch import nn

from headstock.errors import InvalidConfig
from headstock.overrides.matching import WHOLE, Entry, entries_of
from tests.support.llama import tiny
from tests.support.overrides import in_layers, overrides


def names(entry: Entry, modules: dict[str, nn.Module]) -> list[str]:
    return list(entry.within(modules, "things"))


def blocks(*names: str) -> dict[str, nn.Module]:
    return {name: nn.Identity() for name in names}


def test_an_entry_speaks_of_what_it_matches_and_of_what_is_inside() -> None:
    modules = blocks("layers.1", "layers.1.attn", "layers.10.attn", "attn", "layers.1.attn.q")
    entry = Entry("it", {}, frozenset({"layers.1"}))
    assert names(entry, modules) == ["layers.1", "layers.1.attn", "layers.1.attn.q"]
    assert names(Entry(WHOLE, {}), modules) == list(modules)


def test_entries_come_in_the_order_of_their_force() -> None:
    model = tiny()
    chosen = in_layers("layers.0-3", attention="sdpa").model_copy(update={"attention": "eager"})
    first, second = entries_of(model, chosen)
    assert (first.title, first.names, first.said) == (WHOLE, None, {"attention": "eager"})
    assert second.title == "layers[0] 'layers.0-3'"
    assert set(second.names or ()) == {f"model.layers.{place}" for place in range(4)}
    assert entries_of(model, overrides()) == []


def test_exactly_the_matched_modules_with_every_name() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    entry = Entry.of(0, "0", {}, ["", "0", "1"])
    assert entry.exactly(model) == {"0": model[0]}
    model.append(model[0])
    with pytest.raises(InvalidConfig, match="matches '0' and not '2'; match both"):
        entry.exactly(model)


def test_the_modules_that_there_are_are_told_where_none_is_matched() -> None:
    entry = Entry.of(2, "x", {}, ["x"])
    for modules, told in (
        (blocks(), "the model has none anywhere"),
        (blocks("a", "b"), "the model has 'a', 'b'"),
        (blocks("a", "b", "c", "d"), r"the model has 'a', 'b', 'c', \.\.\. \(4 in all\)"),
    ):
        with pytest.raises(
            InvalidConfig, match=rf"hold things to set it, got layers\[2\] 'x', where there is none; {told}"
        ):
            entry.within(modules, "things")


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("layers.3", "where 3 is missing"),
        ("layers.0-12", r"where 2, 3, 4, 5, 6, 7, 8, 9, \.\.\. \(11 in all\) are missing"),
        ("layerz.0", r"where 0 is missing; did you mean 'layers.0'\?"),
        ("layer.*", r"which matches none; did you mean 'layers.[01]'\?"),
        ("zzzzzzzz", r"got layers\[0\] 'zzzzzzzz', which matches none$"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused(pattern: str, text: str) -> None:
    with pytest.raises(InvalidConfig, match=text):
        Entry.of(0, pattern, {}, ["", "layers", "layers.0", "layers.1"])


def test_names_of_the_root_are_not_matched() -> None:
    found: Any = Entry.of(0, "**", {}, ["", "a", "a.b"])
    assert found.names == {"a", "a.b"}
