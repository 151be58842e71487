"""`headstock inspect`: what would run in every layer of a model, and where it was set; no weights are read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from headstock.cli.demo.weights import SMOLLM2, package_file
from headstock.errors import InvalidConfig, MissingDependency, UnsupportedFeature
from headstock.models.base import CONFIG_FILE, Model
from headstock.models.bert import BertModel
from headstock.models.generation.text import MODELS
from headstock.models.gguf.architecture import architecture_of, configuration
from headstock.models.gguf.file import open_gguf
from headstock.models.gguf.tokenizer import special_ids
from headstock.models.gpt2 import GPT2LMHeadModel
from headstock.models.unfilled import unfilled
from headstock.models.weights import WEIGHTS_FILE
from headstock.overrides import Overrides, apply, inspect, load_overrides

__all__ = ["Request", "run"]

_CLASSES: Mapping[str, type[Model]] = {**MODELS, "bert": BertModel, "gpt2": GPT2LMHeadModel}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for on the command line.

    Attributes:
        model: a folder with `config.json`, or a `.gguf` file; None for SmolLM2 from its package.
        overrides: a TOML or JSON file of overrides to lay on the model.
        saved: whether to lay on it those in the metadata of its weights.
        attention: name of the attention function of all layers.
        as_json: whether to print the report as JSON.
    """

    model: Path | None = None
    overrides: Path | None = None
    saved: bool = False
    attention: str = "auto"
    as_json: bool = False


def run(request: Request) -> int:
    """Print what would run; the exit status.

    Raises:
        HeadstockError: the model, or what is to be laid on it, is refused.
    """
    source = package_file(*SMOLLM2) if request.model is None else request.model
    model = _model(source, request.attention)
    saved = _saved(source)
    if request.saved:
        if saved is None:
            raise InvalidConfig(f"--saved must be given for weights that carry overrides, got none in {source}")
        apply(model, saved, name=WEIGHTS_FILE)
    if request.overrides is not None:
        apply(model, Overrides.read(request.overrides), name=request.overrides.name)
    report = inspect(model)
    print(json.dumps(report.to_dict(), indent=2) if request.as_json else report)
    if saved is not None and not request.saved and not request.as_json:
        print(f"note: {WEIGHTS_FILE} carries overrides, which are not laid on the model; --saved does it")
    return 0


def _saved(source: Path) -> Overrides | None:
    weights = source / WEIGHTS_FILE
    return load_overrides(weights) if weights.is_file() else None


def _model(source: Path, attention: str) -> nn.Module:
    """The model without memory for its parameters; headstock's own, else transformers'."""
    config = _folder_config(source) if source.is_dir() else _gguf_config(source)
    kind = str(config.get("model_type"))
    if kind not in _CLASSES:
        return _described(source, kind, attention)
    cls = _CLASSES[kind]
    made = cls.config_class.read(source / CONFIG_FILE) if source.is_dir() else cls.config_class(**config)
    with unfilled():
        model = cls._for(made, {})
    model.set_attention(attention)
    return model


def _described(source: Path, kind: str, attention: str) -> nn.Module:
    own = f"model_type must be one of {', '.join(map(repr, _CLASSES))} to be inspected as headstock's, got {kind!r}"
    if not source.is_dir():
        raise UnsupportedFeature(f"{own} ({source}); for others there is headstock.overrides.inspect(model)")
    try:
        from headstock.integrations.transformers.describing import described

        return described(source, attention)
    except (MissingDependency, UnsupportedFeature) as error:
        raise UnsupportedFeature(f"{own}, or one that transformers can build; {error}") from error


def _folder_config(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG_FILE
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidConfig(f"a model's folder must hold {CONFIG_FILE}, got one that does not read: {error}") from error
    return found if isinstance(found, dict) else {}


def _gguf_config(file: Path) -> dict[str, Any]:
    opened = open_gguf(file)
    config = configuration(opened, architecture_of(opened), None)
    return config | special_ids(opened, config["vocab_size"])
