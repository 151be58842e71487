"""Every kind of callable that users register runs, and none is bypassed."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from headstock.attention import AttentionFunction, AttentionInterface, attend
from headstock.masks import Mask, causal, padding
from tests.support.attention_functions import additive, by_representation

QUERY, KEY, VALUE = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 3)
KEEP = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1]], dtype=torch.bool)


@pytest.mark.parametrize("name", list(by_representation))
@pytest.mark.parametrize(
    "mask",
    [None, causal(), causal() & padding(KEEP), Mask(lambda b, h, i, j: (i + j + h) % 3 != 0), torch.rand(5, 5) < 0.5],
    ids=["none", "causal", "causal and padding", "function", "boolean"],
)
def test_functions_of_every_representation_are_right(name: str, mask: Any) -> None:
    interface = AttentionInterface()
    interface.update(by_representation)
    attend(QUERY, KEY, VALUE, mask=mask, implementation=name, interface=interface, checked=True)


class _Callable:
    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return additive(*args, **keywords)

    def method(self, *args: Any, **keywords: Any) -> Any:
        return additive(*args, **keywords)


class _Slotted(_Callable):
    __slots__ = ()


class _Module(nn.Module):
    def forward(self, *args: Any, **keywords: Any) -> Any:
        return additive(*args, **keywords)


def _mine(function: AttentionFunction) -> Callable[..., Tensor]:
    interface = AttentionInterface()
    interface["mine"] = function
    return lambda query, **options: attend(
        query, KEY, VALUE, mask=causal() & padding(KEEP), implementation="mine", interface=interface, **options
    )


KINDS: dict[str, AttentionFunction] = {
    "object": _Callable(),
    "slots": _Slotted(),
    "method": _Callable().method,
    "module": _Module(),
    "lambda": lambda *args, scaling: additive(*args, scaling=scaling),
}


@pytest.mark.parametrize("kind", [*KINDS, "partial"])
def test_callables_of_every_kind_run(kind: str) -> None:
    _mine(KINDS.get(kind, functools.partial(additive)))(QUERY, checked=True)


@pytest.mark.parametrize("kind", list(KINDS))
def test_callables_of_every_kind_compile(kind: str) -> None:
    forward = _mine(KINDS[kind])
    compiled = torch.compile(forward, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(QUERY), forward(QUERY))


def test_a_partial_is_refused_by_text_in_compiled_code() -> None:
    compiled = torch.compile(_mine(functools.partial(additive)), fullgraph=True, backend="eager")
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"got a partial, .*; wrap it in a function"):
        compiled(QUERY)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_wrapper_that_changes_the_result_is_not_bypassed(compiled: bool) -> None:
    eager = AttentionInterface()["eager"]

    @functools.wraps(eager)
    def doubled(*args: Any, **keywords: Any) -> Any:
        output, weights = eager(*args, **keywords)
        return output * 2, weights

    forward = _mine(doubled)
    found = (torch.compile(forward, fullgraph=True, backend="eager") if compiled else forward)(QUERY, softcap=2.0)
    torch.testing.assert_close(found, 2 * _mine(eager)(QUERY, softcap=2.0))


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_a_wrapper_of_a_table_function_is_not_bypassed(name: str) -> None:
    interface, calls = AttentionInterface(), []
    function = interface[name]

    @functools.wraps(function)
    def wrapper(*args: Any, **keywords: Any) -> Any:
        calls.append(keywords)
        return function(*args, **keywords)

    interface["wrapped"] = wrapper
    options: dict[str, Any] = {"bias": torch.randn(5, 5)} | (
        {"softcap": 3.0, "sinks": torch.randn(4)} if name == "eager" else {}
    )
    for mask in (None, causal(), causal() & padding(KEEP), torch.randn(5, 5)):
        found = attend(QUERY, KEY, VALUE, mask=mask, implementation="wrapped", interface=interface, **options)
        expected = attend(QUERY, KEY, VALUE, mask=mask, implementation=name, interface=interface, **options)
        torch.testing.assert_close(found, expected)
    assert len(calls) == 4
