import math

from headstock.registry import Overlay, PluginStub
from headstock.registry.provenance import provenance
from tests.support.registry import interface_of, minus_one, plus_one, shared_table

FILE = plus_one.__code__.co_filename


def test_the_first_entry_wins_and_shadows_the_others() -> None:
    stub = PluginStub("one", "vendor.functions:one", "vendor 1.0")
    found = provenance("one", [("local", plus_one, None), ("shared", math.sin, None), ("plug-in", stub, "vendor 1.0")])
    assert (found.layer, found.component, found.module) == (
        "local",
        "tests.support.registry.plus_one",
        "tests.support.registry",
    )
    assert (found.file, found.line) == (FILE, plus_one.__code__.co_firstlineno)
    shared, plugin = found.shadows
    assert (shared.layer, shared.component, shared.file, shared.line) == ("shared", "math.sin", None, None)
    assert (plugin.layer, plugin.component, plugin.module, plugin.distribution) == (
        "plug-in",
        "vendor.functions:one",
        "vendor.functions",
        "vendor 1.0",
    )
    assert shared.shadows == plugin.shadows == ()


def test_a_table_tells_scope_local_parent_and_shared_apart() -> None:
    table = shared_table(three=plus_one)
    interface = interface_of(table)
    file = interface()
    model = interface(parent=file)
    layer = interface(parent=model)
    for overlay in (file, layer):
        overlay["three"] = minus_one
    with table.override(three=plus_one), model.override(three=minus_one):
        found = layer.where("three")
        assert [each.layer for each in (found, *found.shadows)] == ["scope", "scope", "local", "parent", "shared"]
        assert found.component == "tests.support.registry.minus_one"
        assert found.shadows[0].component == "tests.support.registry.plus_one"
        assert [each.layer for each in (table.where("three"), *table.where("three").shadows)] == ["scope", "shared"]
    assert [each.layer for each in (model.where("three"), *model.where("three").shadows)] == ["parent", "shared"]


def test_a_scope_on_a_sibling_is_not_told() -> None:
    table = shared_table()
    mine, sibling = Overlay(table), Overlay(table)
    with sibling.override(one=plus_one):
        assert mine.where("one").layer == "shared"
