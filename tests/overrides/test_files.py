import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstock.errors import InvalidConfig
from headstock.overrides.files import json_text, read_file, read_json, read_toml, toml_text

SCALARS = st.one_of(
    st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)
)
TABLES = st.dictionaries(st.text(max_size=6), st.one_of(SCALARS, st.lists(SCALARS, max_size=3)), max_size=3)


@given(TABLES, st.lists(TABLES, min_size=1, max_size=3))
def test_toml_is_read_back_by_the_standard_library(table: dict[str, Any], entries: list[dict[str, Any]]) -> None:
    data = {**table, "inner": table, "entries": entries}
    assert tomllib.loads(toml_text(data)) == data


def test_control_characters_are_escaped() -> None:
    data = {"a\x7fb\x00": '\x7f\x1f\n"\\'}
    assert tomllib.loads(toml_text(data)) == data


@given(TABLES)
def test_json_is_read_back(table: dict[str, Any]) -> None:
    assert read_json(json_text(table)) == json.loads(json.dumps(table)) == table


@pytest.mark.parametrize(
    ("text", "told"),
    [("{", "overrides must be JSON"), ('{"a": 1, "a": 2}', "the field 'a' twice"), ("[" * 100_000, "must be JSON")],
)
def test_what_is_no_json_is_refused(text: str, told: str) -> None:
    with pytest.raises(InvalidConfig, match=told):
        read_json(text)


def test_numbers_that_json_does_not_have_are_refused() -> None:
    with pytest.raises(InvalidConfig, match="the number NaN, which JSON does not have"):
        read_json('{"a": NaN}')


@pytest.mark.parametrize("text", ["a = ", "a = 1\na = 2", "[[["])
def test_what_is_no_toml_is_refused(text: str) -> None:
    with pytest.raises(InvalidConfig, match="overrides must be TOML that can be read, got"):
        read_toml(text)


def test_a_file_is_read_by_its_ending(tmp_path: Path) -> None:
    for name, text in (("a.TOML", "x = 1"), ("b.json", '{"x": 1}')):
        (tmp_path / name).write_text(text)
        assert read_file(tmp_path / name) == {"x": 1}
    with pytest.raises(InvalidConfig, match=r"must end in \.toml or \.json, got 'c.yaml'; rename it"):
        read_file(tmp_path / "c.yaml")


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_does_not_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "a.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidConfig, match="must be UTF-8 text that can be read, got"):
        read_file(file)
