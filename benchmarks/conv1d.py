"""Conv1D against `nn.Linear` with the same weights and transformers' Conv1D: forward, and forward with backward."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D as TransformersConv1D

from benchmarks.compare import Result, Settings, Target, agreeing, compared, interleaved
from headstock.layers import Conv1D

__all__ = ["run"]

TARGET = Target(1.05)


def run(settings: Settings) -> list[Result]:
    """GPT-2's widening layer at batch 1 and 512, on one thread and on two."""
    width, wide = (16, 64) if settings.tiny else (768, 3072)
    layers = _layers(width, wide)
    results = []
    for threads, batch, backward in itertools.product((1, 2), (1, 512), (False, True)):
        x = torch.randn(batch, width, requires_grad=backward)
        upstream = torch.randn(batch, wide)
        step = _forward_and_backward if backward else _forward
        with torch.set_grad_enabled(backward):
            # Sums of `wide` products of numbers near 1, in float32 and in different orders.
            contestants = agreeing({name: step(each, x, upstream) for name, each in layers.items()}, tolerance=1e-3)
            samples = interleaved(contestants, settings, threads=threads)
        case = f"{width} -> {wide}, batch {batch}, forward{' + backward' if backward else ''}"
        results += compared("conv1d", case, samples, targets={"nn.Linear": TARGET}, threads=threads)
    return results


def _layers(width: int, wide: int) -> dict[str, nn.Module]:
    linear, ours, theirs = nn.Linear(width, wide), Conv1D(wide, width), TransformersConv1D(wide, width)
    with torch.no_grad():
        for each in (ours, theirs):
            each.weight.copy_(linear.weight.t())
            each.bias.copy_(linear.bias)
    return {"headstock Conv1D": ours, "nn.Linear": linear, "transformers Conv1D": theirs}


def _forward(layer: nn.Module, x: Tensor, _: Tensor) -> Callable[[], Tensor]:
    return lambda: layer(x)


def _forward_and_backward(layer: nn.Module, x: Tensor, upstream: Tensor) -> Callable[[], Tensor]:
    wanted = (x, *layer.parameters())
    # The gradient of x alone is returned: that of the weight has another layout in each kind of layer.
    return lambda: torch.autograd.grad(layer(x), wanted, upstream)[0]
