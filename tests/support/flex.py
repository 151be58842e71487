"""FlexAttention in tests: how far its kernel for the CPU may lie off, and its programs run without a compiler."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from headstock import attend
from headstock.attention import AttentionOutput
from headstock.attention.flex import compiling
from tests.support.attention import Computed, Inputs, assert_within, bounds, upstream_of

__all__ = ["assert_is_attention", "graphs", "traced_only"]

# torch's vectors have an exponential of their own for this kernel, off by up to 20 units in the last place.
_EXPONENTIAL = 20


def graphs() -> int:
    """How many graphs dynamo has handed to a compiler."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


@contextmanager
def traced_only(*, gradients: bool = False) -> Iterator[None]:
    """Programs are traced but not compiled: torch runs what it has traced, which takes gradients on the CPU too."""
    from torch.nn.attention import flex_attention

    how = {"dynamic": True, "fullgraph": True, "backend": "eager"}
    with patch.object(compiling, "_HOW", how), patch.dict(compiling._COMPILED, clear=True):
        if not gradients:
            yield
            return
        with patch.object(flex_attention, "_validate_device", _any_device):
            yield


def _any_device(query: Tensor, key: Tensor, value: Tensor) -> None:
    """What refuses gradients on the CPU, left out."""


def assert_is_attention(
    found: Tensor | AttentionOutput, query: Tensor, key: Tensor, value: Tensor, **keywords: Any
) -> None:
    """Each number of the output lies where rounding may move the answer in float64."""
    output = (found if isinstance(found, Tensor) else found.output).cpu()
    inputs, exact = _exact(query, key, value, keywords)
    (allowed, *_), _ = bounds(inputs, exact, upstream_of(inputs), output.dtype)
    # Numerator and denominator of each weight are sums of exponentials.
    value_of_head = inputs.value.abs().repeat_interleave(query.shape[1] // key.shape[1], 1)
    allowed = allowed + 2 * _EXPONENTIAL * torch.finfo(torch.float32).eps * (exact.weights @ value_of_head)
    assert_within(output, exact.output, allowed)


def _exact(query: Tensor, key: Tensor, value: Tensor, keywords: dict[str, Any]) -> tuple[Inputs, Computed]:
    query, key, value = (_double(each) for each in (query, key, value))
    given = {name: _double(each) for name, each in keywords.items()}
    result = attend(query, key, value, implementation="eager", return_lse=True, return_weights=True, **given)
    assert result.log_sum_exp is not None
    assert result.weights is not None
    bias = given.get("bias")
    inputs = Inputs(
        query,
        key,
        value,
        visible=result.weights > 0,
        scaling=given.get("scaling", query.shape[3] ** -0.5),
        softcap=given.get("softcap"),
        sinks=given.get("sinks"),
        bias=bias if isinstance(bias, Tensor) else None,
    )
    return inputs, Computed(result.output, result.log_sum_exp, result.weights)


def _double(given: Any) -> Any:
    if not isinstance(given, Tensor):
        return given
    return given.detach().cpu().double() if given.is_floating_point() else given.cpu()
