"""Devices of a test: what runs on the CPU runs on a CUDA device too, under the marker `cuda`."""

import copy
from dataclasses import is_dataclass
from types import CellType, FunctionType
from typing import Any, TypeVar, cast

import pytest
from torch import Tensor

from headstock.caches import PagedKeyValues, PagePool
from headstock.masks import PreparedMask, prepare

__all__ = ["DEVICES", "moved", "on_each_device"]

T = TypeVar("T")

DEVICES = ("cpu", pytest.param("cuda", marks=pytest.mark.cuda))
on_each_device = pytest.mark.parametrize("device", DEVICES)
"""A test that takes `device`."""


def moved(value: T, device: str) -> T:
    """What was drawn on the CPU with all of its tensors on `device`; itself on the CPU.

    Masks and biases are followed into their patterns, and functions into what they have captured.
    """
    return value if device == "cpu" else cast(T, _moved(value, device))


def _moved(value: Any, device: str) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to(device).requires_grad_(value.requires_grad)
    if isinstance(value, PreparedMask):
        source = value.mask if value.given is None else value.given
        return prepare(_moved(source, device), _moved(value.geometry, device), device=device)
    if isinstance(value, FunctionType):
        return _with_captured(value, device)
    if isinstance(value, dict):
        return {key: _moved(each, device) for key, each in value.items()}
    if isinstance(value, list | tuple):
        parts = [_moved(each, device) for each in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, PagedKeyValues | PagePool) or (is_dataclass(value) and not isinstance(value, type)):
        made = copy.copy(value)
        for name, each in vars(value).items():
            object.__setattr__(made, name, _moved(each, device))
        return made
    return value


def _with_captured(function: FunctionType, device: str) -> FunctionType:
    """The same code over cells of its own."""
    cells = tuple(CellType(_moved(cell.cell_contents, device)) for cell in function.__closure__ or ())
    made = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, cells)
    made.__kwdefaults__ = function.__kwdefaults__
    return made
