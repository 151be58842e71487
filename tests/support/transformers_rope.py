"""Default configurations in transformers' model folders that say something about RoPE, and what computes it there."""

import functools
import importlib
import inspect
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import transformers.models
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import PreTrainedConfig

MODELS = Path(transformers.models.__path__[0])


@functools.cache
def default_configs() -> dict[str, Any]:
    """`folder.Class` to its default, and `folder.Class.part` to each part of one, where it has rope parameters."""
    found: dict[str, Any] = {}
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)  # of defaults: not of interest here, and much
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for file in sorted(MODELS.glob("*/configuration_*.py")):
                for name, cls in _classes_of(file, PreTrainedConfig):
                    found |= _with_parts(f"{file.parent.name}.{name}", cls)
    finally:
        logging.disable(previous)
    return {name: config for name, config in found.items() if _has_rope(config)}


def class_of(config: PreTrainedConfig) -> str:
    """`folder.Class`."""
    return f"{type(config).__module__.split('.')[-2]}.{type(config).__name__}"


def rotary_classes(config: PreTrainedConfig) -> list[type[nn.Module]]:
    """The rotary modules that may serve this configuration: those annotated with it, else those of its kind."""
    folder, cls = class_of(config).split(".")
    made = [
        each
        for file in sorted(MODELS.glob(f"{folder}/modeling_*.py"))
        for _, each in _classes_of(file, nn.Module)
        if "Rotary" in each.__name__ and "config" in inspect.signature(each).parameters
    ]
    annotated = [each for each in made if cls in _annotation(each)]
    return annotated or [each for each in made if ("Vision" in each.__name__) == ("Vision" in cls)]


def _annotation(cls: type[nn.Module]) -> list[str]:
    annotation = inspect.signature(cls).parameters["config"].annotation
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return text.replace("|", " ").replace('"', "").split()


def _classes_of(file: Path, base: type) -> Iterator[tuple[str, type]]:
    module = importlib.import_module(f"transformers.models.{file.parent.name}.{file.stem}")
    for name, each in vars(module).items():
        if inspect.isclass(each) and issubclass(each, base) and each.__module__ == module.__name__:
            yield name, each


def _with_parts(name: str, cls: type) -> dict[str, Any]:
    try:
        config = cls()
    except (StrictDataclassError, ValueError):  # two classes have no default that their own check accepts
        return {}
    parts = {f"{name}.{part}": getattr(config, part, None) for part in getattr(cls, "sub_configs", {})}
    return {name: config} | {part: value for part, value in parts.items() if isinstance(value, PreTrainedConfig)}


def _has_rope(config: Any) -> bool:
    try:
        return hasattr(type(config), "rope_parameters") or config.rope_parameters is not None
    except (AttributeError, RuntimeError):
        return False
