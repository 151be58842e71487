"""Programs, compiled when first called and kept: one for each kind of call."""

import contextlib
from collections.abc import Callable, Hashable, Iterator
from types import FunctionType
from typing import Any, cast

import torch
from torch import Tensor

from headstock.errors import UnsupportedFeature

__all__ = ["called", "compiled", "refuse_uncompiled", "unsized"]

_COMPILED: dict[Hashable, Callable[..., Any]] = {}

_HOW: dict[str, Any] = {
    "dynamic": True,
    "fullgraph": True,
    "options": {"assert_indirect_indexing": False},  # what is asserted of an index reads the size of what is indexed
}


def compiled(kind: Hashable, make: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
    """The program of that kind; `make` makes the function of a new one."""
    if kind not in _COMPILED:
        # Code of its own: dynamo counts recompilations by code, and what one kind needs must not exhaust another's.
        function = cast(FunctionType, make())
        code = function.__code__.replace(co_name=f"{function.__name__}_{len(_COMPILED)}")
        own = FunctionType(code, function.__globals__, code.co_name, function.__defaults__, function.__closure__)
        _COMPILED[kind] = torch.compile(own, **_HOW)
    return _COMPILED[kind]


def called(program: Callable[..., Any], *arguments: Any) -> Any:
    """What a program returns, compiled without the guess that sizes that are equal now always are."""
    with _without_duck_shapes():
        return program(*arguments)


def unsized(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors, of whose first size a program is to know nothing.

    Inductor (torch 2.13) renames sizes in its kernel for the CPU by their text, in which `ks1` is found in `ks18`: the
    symbols of sizes that nothing is known of have names of another form. None of them is compiled anew for size 1.
    """
    from torch._dynamo.decorators import mark_unbacked

    for tensor in tensors:
        mark_unbacked(tensor, 0)
    return tensors


def refuse_uncompiled() -> None:
    """Refuse to run a program as it stands, which would make a tensor of all pairs.

    Raises:
        UnsupportedFeature: compilation is switched off.
    """
    if not torch.compiler.is_dynamo_compiling():
        raise UnsupportedFeature(
            "flex_attention must be compiled, got compilation switched off (TORCH_COMPILE_DISABLE, or a stance of "
            "torch.compiler.set_stance); switch it on, or use the implementation 'blocked', which needs none"
        )


@contextlib.contextmanager
def _without_duck_shapes() -> Iterator[None]:
    from torch.fx.experimental import _config

    with _config.patch(use_duck_shape=False):  # type: ignore[attr-defined]  # put into the module at run time
        yield
