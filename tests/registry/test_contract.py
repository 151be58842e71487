import math

from headstock.registry import Overlay, Registry, declare
from headstock.registry.contract import Declaration, Description, Provenance
from tests.support.registry import Unary, adds, plus_one, shared_table

FILE = plus_one.__code__.co_filename
LINE = plus_one.__code__.co_firstlineno


def test_a_provenance_prints_as_lines_nearest_first() -> None:
    shared = Provenance("one", "shared", "math.sin", "math")
    found = Provenance("one", "local", "m.f", "m", "m.py", 3, shadows=(shared,))
    assert str(found) == "'one': local, m.f (m.py:3)\n  shadows 'one': shared, math.sin"
    plugin = Provenance("one", "plug-in", "m:f", "m", distribution="vendor 1.0")
    assert str(plugin) == "'one': plug-in of vendor 1.0, m:f"


def test_a_description_tells_what_it_is_what_it_declares_and_where_it_lives() -> None:
    table = shared_table(three=plus_one)
    described = table.describe("three")
    assert described.name == "three"
    assert described.kind == "function"
    assert described.component is plus_one
    assert described.declaration is None
    assert described.where == table.where("three")
    assert str(described) == (
        "function 'three': tests.support.registry.plus_one\n  One more.\n  declares nothing\n"
        f"  'three': shared, tests.support.registry.plus_one ({FILE}:{LINE})"
    )


def test_a_description_of_the_innermost_scope_with_its_declaration() -> None:
    table = Overlay(Registry[Unary]("function", builtins={"one": math.sin}))
    with table.override(one=declare(adds(10), mask="dense")):
        described = table.describe("one")
    assert described.declaration == Declaration("dense")
    first, *_, last = str(described).splitlines()
    assert first == "function 'one': tests.support.registry.adds_10"
    assert last.strip() == "shadows 'one': shared, math.sin"
    assert "declares Declaration(mask='dense'" in str(described)


def test_records_compare_by_content_and_are_frozen() -> None:
    table = shared_table()
    assert table.describe("one") == table.describe("one") != table.describe("two")
    assert isinstance(table.describe("one"), Description)
    assert hash(table.where("one")) == hash(table.where("one"))
