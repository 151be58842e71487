"""The rotary classes of transformers' models whose positions have several axes."""

import importlib
import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["axial_angles_of", "axial_models", "axial_rotary_of", "text_rotary_of"]


def axial_models() -> list[str]:
    """The models of transformers that have an axial rotary class."""
    import transformers

    models = Path(transformers.__file__).parent / "models"
    found = [each for each in models.glob("*/modeling_*.py") if 'rope_type != "axial"' in each.read_text("utf-8")]
    return sorted(each.parent.name for each in found)


def axial_rotary_of(model: str) -> tuple[Any, Any]:
    """The axial rotary module of a model with its default configuration, and that."""
    modeling = importlib.import_module(f"transformers.models.{model}.modeling_{model}")
    configuration = importlib.import_module(f"transformers.models.{model}.configuration_{model}")
    rotary: Any
    (rotary,) = (
        each
        for each in vars(modeling).values()
        if inspect.isclass(each)
        and each.__module__ == modeling.__name__
        and hasattr(each, "compute_axial_rope_parameters")
    )
    stated = inspect.signature(rotary.compute_axial_rope_parameters).parameters["config"].annotation
    config = (stated if inspect.isclass(stated) else getattr(configuration, stated))()
    return rotary(config), config


def text_rotary_of(model: str, rotary: str, config: str, **fields: Any) -> tuple[Any, Any]:
    """A rotary module for text, and its configuration with these fields."""
    modeling = importlib.import_module(f"transformers.models.{model}.modeling_{model}")
    configuration = importlib.import_module(f"transformers.models.{model}.configuration_{model}")
    made = getattr(configuration, config)(**fields)
    return getattr(modeling, rotary)(made), made


def axial_angles_of(model: str, rotary: Any, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of each pair's angle, `[tokens, half]`, for positions `[axes, tokens]`."""
    grid = positions.T
    if model == "gemma4":  # [h, h, w, w]: each axis rotates its own half of the head
        cosine, sine = (each[0] for each in rotary(torch.zeros(1), grid.unsqueeze(0)))
        quarter = cosine.shape[-1] // 4
        return tuple(torch.cat([each[:, :quarter], each[:, 2 * quarter : 3 * quarter]], -1) for each in (cosine, sine))  # type: ignore[return-value]
    cosine, sine = (each.reshape(len(grid), -1) for each in rotary(torch.zeros(1), grid))
    half = cosine.shape[-1] // 2
    if cosine[:, :half].equal(cosine[:, half:]):
        return cosine[:, :half], sine[:, :half]
    assert cosine[:, 0::2].equal(cosine[:, 1::2])
    return cosine[:, 0::2], sine[:, 0::2]
