"""docs/overrides.md: its TOML is read, applied and inspected (tests/test_readme.py runs its Python)."""

import re
from pathlib import Path

from headstock.overrides import Overrides, apply, inspect
from headstock.overrides.data import LayerOverrides
from tests.support.llama import tiny

PAGE = (Path(__file__).parents[2] / "docs" / "overrides.md").read_text()


def test_the_example_of_the_page_does_what_the_page_says() -> None:
    (toml,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    model = tiny(num_hidden_layers=6)
    with apply(model, Overrides.from_toml(toml)):
        layers = inspect(model).layers
        assert [each.attention.text for each in layers] == ["eager"] * 4 + ["sdpa"] * 2
        assert {each.mask.text for each in layers} == {"causal() & (sliding_window(size=2048))"}
        assert [each.rope.text.partition("(")[0] for each in layers] == ["Llama3Parameters"] * 5 + ["LinearParameters"]
        assert [each.checkpoint.text == "off" for each in layers] == [True] * 5 + [False]
        assert len(inspect(model).replaced) == 6


def test_every_field_is_told() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert rows == set(LayerOverrides.model_fields) - {"match"}
