"""docs/overrides.md: its example is read, applied and inspected."""

import re
from pathlib import Path
from typing import Any

import torch

from headstock.layers import RMSNorm
from headstock.overrides import Overrides, apply, inspect, overriding
from headstock.overrides.data import LayerOverrides
from tests.support.llama import tiny

PAGE = (Path(__file__).parents[2] / "docs" / "overrides.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_example_runs(tmp_path: Path) -> None:
    (toml,), (python,) = blocks("toml"), blocks("python")
    (tmp_path / "example.toml").write_text(toml)
    model = tiny(num_hidden_layers=6)
    said: list[str] = []
    names: dict[str, Any] = {
        "model": model,
        "tokens": torch.tensor([[3, 1, 4]]),
        "print": lambda text: said.append(str(text)),
    }
    exec(python.replace("example.toml", str(tmp_path / "example.toml")), names)
    assert said == [str(inspect(model))]
    with apply(model, Overrides.from_toml(toml)), overriding(model, Overrides(attention="blocked")):
        layers = inspect(model).layers
        assert [each.attention.text for each in layers] == ["blocked"] * 6
    with apply(model, Overrides.from_toml(toml)):
        layers = inspect(model).layers
        assert [each.attention.text for each in layers] == ["eager"] * 4 + ["sdpa"] * 2
        assert {each.mask.text for each in layers} == {"causal() & (sliding_window(size=2048))"}
        assert [each.rope.text.partition("(")[0] for each in layers] == ["Llama3Parameters"] * 5 + ["LinearParameters"]
        assert [each.checkpoint.text == "off" for each in layers] == [True] * 5 + [False]
        assert type(model.layers[0].input_layernorm) is RMSNorm


def test_every_field_is_told() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert rows == set(LayerOverrides.model_fields) - {"match"}
