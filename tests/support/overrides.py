"""Overrides written short, and what they are compared with."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from headstock.layers import LayerInterface, RMSNorm
from headstock.overrides import Overrides, Tables
from tests.support.llama import left_padded

__all__ = ["KEEP", "TABLES", "TOKENS", "Doubled", "everything", "in_layers", "logits", "overrides", "refuses"]

TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8], [2, 7, 1, 8, 2, 8, 1, 8, 2, 8, 4, 5]])
KEEP = left_padded(2, 12)


class Doubled(RMSNorm):
    """A norm that shows where it runs."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Twice the norm."""
        return 2 * super().forward(hidden_states)


LAYERS = LayerInterface()
LAYERS["Doubled"] = Doubled
LAYERS["TorchNorm"] = nn.RMSNorm
TABLES = Tables(layers=LAYERS)


def overrides(**fields: Any) -> Overrides:
    """Overrides of the whole model."""
    return Overrides.from_dict(fields)


def in_layers(pattern: str, **fields: Any) -> Overrides:
    """Overrides of one entry."""
    return Overrides.from_dict({"layers": {pattern: fields}})


def logits(model: nn.Module, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
    """What a language model says, without gradients."""
    with torch.no_grad():
        found: Tensor = model(tokens, mask).logits
    return found


def everything(model: nn.Module) -> dict[str, Any]:
    """Whatever overriding might have left behind: modules by name, their attributes, hooks, tensors and modes."""
    found: dict[str, Any] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        found[name] = (id(module), type(module), module.training, dict(module._forward_pre_hooks))
        kept = {key: value for key, value in vars(module).items() if not key.startswith("_") or key == "_modules"}
        found[f"{name} attributes"] = {key: id(value) for key, value in kept.items()} | {
            key: None
            for key in vars(module)
            if key.startswith(("_headstock", "_gradient")) and not key.endswith("_name")
        }
    found["state"] = [(name, tensor.data_ptr(), tensor.dtype) for name, tensor in model.state_dict().items()]
    return found


def refuses(action: Callable[[], object], model: nn.Module) -> None:
    """Run `action`, which must raise, and see that it left the model as it was."""
    before = everything(model)
    try:
        action()
    finally:
        assert everything(model) == before
