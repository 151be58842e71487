"""Each checkpointing policy against none and against transformers': time of a step, bytes kept for backward."""

import functools
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer as TransformersCheckpointingLayer

from benchmarks.compare import Result, Settings, agreeing, compared, interleaved
from headstock.cli.demo.memory import LivingBytes
from headstock.layers import GradientCheckpointingLayer, set_gradient_checkpointing

__all__ = ["run"]

POLICIES: dict[str, dict[str, Any]] = {"full": {}, "every_k": {"k": 2}, "selective": {}, "offload": {}}


class Body(nn.Module):
    """A pre-norm feed-forward block: what is kept for backward is nine times its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        narrowed: Tensor = self.narrow(nn.functional.gelu(self.wide(self.norm(hidden))))
        return hidden + narrowed


class Block(GradientCheckpointingLayer, Body):
    """headstock's."""


class TransformersBlock(TransformersCheckpointingLayer, Body):
    """transformers'."""


def run(settings: Settings) -> list[Result]:
    """A training step of six blocks; all take their turns in one round, and each policy is held against two of them."""
    width, rows = (8, 16) if settings.tiny else (256, 512)
    plain = _stack(Block, width)
    models = {policy: _like(plain, _stack(Block, width)) for policy in POLICIES}
    for policy, options in POLICIES.items():
        set_gradient_checkpointing(models[policy], policy, **options)
    models |= {"transformers": _switched_on(_like(plain, _stack(TransformersBlock, width))), "no checkpointing": plain}
    x = torch.randn(rows, width, requires_grad=True)
    # The same operations on the same numbers, in the same order: not one bit may differ.
    contestants = agreeing({name: functools.partial(_step, each, x) for name, each in models.items()}, tolerance=0.0)
    times = interleaved(contestants, settings)
    kept = {name: [_kept(each, x)] for name, each in models.items()}
    results = []
    for policy in POLICIES:
        against = (policy, "transformers", "no checkpointing")
        step, memory = ({name: samples[name] for name in against} for samples in (times, kept))
        results += compared("checkpointing", f"{policy}, forward + backward", step)
        results += compared("checkpointing", f"{policy}, kept for backward", memory, unit="B")
    return results


def _stack(block: Callable[[int], nn.Module], width: int, depth: int = 6) -> nn.Sequential:
    return nn.Sequential(*(block(width) for _ in range(depth)))


def _like(model: nn.Module, other: nn.Sequential) -> nn.Sequential:
    other.load_state_dict(model.state_dict())
    return other


def _switched_on(model: nn.Sequential) -> nn.Sequential:
    for layer in model:
        assert isinstance(layer, TransformersBlock)
        layer.gradient_checkpointing = True
        cast(Any, layer)._gradient_checkpointing_func = functools.partial(checkpoint, use_reentrant=False)
    return model


def _step(model: nn.Module, x: Tensor) -> Tensor:
    gradient, *_ = torch.autograd.grad(model(x).square().sum(), (x, *model.parameters()))
    return gradient


def _kept(model: nn.Module, x: Tensor) -> float:
    """Bytes that forward made and backward will need."""
    with LivingBytes() as counted:
        output = model(x)
        kept = counted.current - output.untyped_storage().nbytes()
    del output
    return float(kept)
