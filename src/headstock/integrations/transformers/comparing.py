"""Whether a layer of transformers computes what one of headstock's does: by its class, and by trying."""

import copy
import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from headstock.layers.norms import RMSNorm
from headstock.rope.embedding import RotaryEmbedding

__all__ = ["norm_difference", "rotary_difference"]

_UNIT = torch.finfo(torch.float32).eps
_LONG = 4096  # positions beyond are no other formula, and rounding of angles grows with them


def norm_difference(module: nn.Module, size: int, eps: float) -> str | None:
    """How the module differs from `RMSNorm(size, eps)` with the same weight, for a sentence; None where it does not.

    Tried in float32 on rows from far below the root of eps to far above it, with a random weight.
    """
    if len(_inputs(module)) != 1:
        return f"takes ({', '.join(_inputs(module))})"
    generator = torch.Generator().manual_seed(0)
    device = module.get_parameter("weight").device
    weight = torch.randn(size, generator=generator).to(device)
    scales = eps**0.5 * torch.tensor([1e-2, 1.0, 3.0, 1e2, 1e4])
    rows = (torch.randn(len(scales), size, generator=generator) * scales[:, None]).to(device)
    ours = RMSNorm(size, eps, device=device)
    with torch.no_grad():
        expected = functional_call(ours, {"weight": weight}, (rows,))
        try:
            got = functional_call(module, {"weight": weight}, (rows,))
        except Exception as error:  # noqa: BLE001 -- whatever a stranger's forward raises is an answer
            return f"does not run on [rows, {size}] ({type(error).__name__})"
        shifted = functional_call(ours, {"weight": 1 + weight}, (rows,))
    # A sum of `size` squares is off by at most `size` units in the last place, half of which are left by the root.
    limit = (size / 2 + 8) * _UNIT
    if _close(got, expected, limit * expected.abs()):
        return None
    return "multiplies by 1 + weight" if _close(got, shifted, limit * shifted.abs()) else "computes another formula"


def rotary_difference(module: nn.Module, layer_type: str | None = None, *, rows: int = 2) -> str | None:
    """How the module differs from headstock's `RotaryEmbedding` of its configuration; None where it does not.

    Args:
        module: a rotary module of transformers, with a `config`.
        layer_type: which layers, where the module tells them apart.
        rows: with 2, rows of different lengths must not change each other.
    """
    named = ["x", "position_ids"] if layer_type is None else ["x", "position_ids", "layer_type"]
    if _inputs(module) != named:
        return f"takes ({', '.join(_inputs(module))})"
    own = copy.deepcopy(module)  # some write their frequencies in forward
    device = next((each.device for each in module.buffers()), torch.device("cpu"))
    longest = min(int(getattr(module.config, "max_position_embeddings", _LONG)), _LONG)
    positions = torch.stack([torch.arange(8), torch.linspace(0, 2 * longest - 1, 8).long()][-rows:]).to(device)
    kind: dict[str, Any] = {} if layer_type is None else {"layer_type": layer_type}
    try:
        ours = RotaryEmbedding(module.config, layer_type=layer_type, device=device)
        with torch.no_grad():
            expected = ours(torch.empty(0, device=device), positions)
            got = own(torch.empty(0, device=device), positions, **kind)
    except Exception as error:  # noqa: BLE001 -- whatever a stranger's forward raises is an answer
        return f"does not run on positions [rows, tokens] ({type(error).__name__}: {error})"
    # A frequency is rounded a few times, its product with the position once: units in the last place of the angle.
    limit = 8 * _UNIT * (1 + positions.float())[..., None]
    if not isinstance(got, tuple) or len(got) != 2 or any(each.shape != expected[0].shape for each in got):
        return "gives something else than cosines and sines, half after half"
    same = all(_close(each, wanted, limit) for each, wanted in zip(got, expected, strict=True))
    return None if same else "gives other angles" + (", or lets rows of other lengths change them" if rows > 1 else "")


def _inputs(module: nn.Module) -> list[str]:
    return list(inspect.signature(type(module).forward).parameters)[1:]


def _close(got: Any, expected: Tensor, limit: Tensor) -> bool:
    if not isinstance(got, Tensor) or got.shape != expected.shape:
        return False
    return bool(((got.float() - expected).abs() <= limit).all())
