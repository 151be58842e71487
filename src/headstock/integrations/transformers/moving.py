"""Masks on another device: a model that lies on several sends its mask from one to the next."""

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from headstock.errors import UnsupportedFeature
from headstock.masks import Mask
from headstock.masks.contract import Predicate
from headstock.masks.node import text_of
from headstock.masks.predicate import Junction, Negation, Pattern

__all__ = ["moved"]


def moved(value: Any, device: torch.device) -> Any:
    """A tensor, a mask or a number on `device`.

    Raises:
        UnsupportedFeature: the mask has a plain function, whose tensors cannot be found.
    """
    if isinstance(value, Tensor):
        return value.to(device)
    return Mask(_moved(value.predicate, device)) if isinstance(value, Mask) else value


def _moved(predicate: Predicate, device: torch.device) -> Predicate:
    if isinstance(predicate, Junction):
        return type(predicate)(tuple(_moved(each, device) for each in predicate.operands))
    if isinstance(predicate, Negation):
        return Negation(_moved(predicate.operand, device))
    if isinstance(predicate, Pattern):
        held = {each.name: getattr(predicate, each.name) for each in fields(predicate)}
        return replace(predicate, **{name: moved(each, device) for name, each in held.items()})
    raise UnsupportedFeature(
        f"a mask must be built of patterns to be sent to {device}, got {text_of(predicate)}; place the model on one "
        "device, or write the function with the operations of transformers' own mask functions"
    )
