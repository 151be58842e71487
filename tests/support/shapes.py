"""Checks the shapes in headstock's signatures while the tests run.

An import hook puts a decorator on every function and method that is written at the top level or in a class of the
package. It does so in the syntax tree, innermost, so that whatever holds the function afterwards (a table in the same
module, `staticmethod`, `declare`) holds the checked one. Of an annotated signature only what jaxtyping states is
checked, the rest is mypy's. A named tuple or dataclass whose fields state shapes is checked, its fields against each
other, wherever a checked function takes or returns it.

- While torch traces, the check steps aside: a graph must not contain it.
- A call whose arguments break the annotations passes only if the function itself refuses them with a `HeadstockError`,
  which is then what the caller sees. That keeps tests of bad input possible without making the annotations vague.
- Operators of `torch.library` have a schema of their own, and generators return what no shape describes: left alone.

`HEADSTOCK_SHAPES=0` switches it off.
"""

import ast
import dataclasses
import functools
import inspect
import os
import sys
import types
import typing
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from typing import Any

import torch
from beartype import beartype
from beartype.door import is_bearable
from jaxtyping import AbstractArray, TypeCheckError, jaxtyped
from torch._subclasses.fake_tensor import FakeTensor

__all__ = ["ShapeFinder", "check_shapes", "install", "uninstall"]

_DECORATOR = "__check_shapes__"
_OPERATORS = {"custom_op", "impl", "register_fake", "register_kernel", "register_vmap", "triton_op"}
_Function = Callable[..., Any]


def check_shapes(function: _Function) -> _Function:
    """`function`, checking its jaxtyping annotations at each call that is not traced; itself if it has none."""
    if not any(_may_state_shape(each) for each in function.__annotations__.values()) or _yields(function):
        return function

    @functools.wraps(function)
    def checked(*args: Any, **keywords: Any) -> Any:
        __tracebackhide__ = True
        if torch.compiler.is_compiling():
            return function(*args, **keywords)
        return _call(function, _typed(function), args, keywords)

    _take_place(checked, function.__code__)
    return checked


def _take_place(wrapper: Any, code: types.CodeType) -> None:
    """Give the wrapper code of its own: dynamo counts recompilations per code object, and provenance is read off it."""
    place = {each: getattr(code, each) for each in ("co_filename", "co_firstlineno", "co_name", "co_qualname")}
    wrapper.__code__ = wrapper.__code__.replace(**place)


def _call(function: _Function, typed: _Function, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    __tracebackhide__ = True
    if any(isinstance(each, FakeTensor) for each in (*args, *keywords.values())):
        return function(*args, **keywords)
    name = f"{function.__module__}.{function.__qualname__}"
    try:
        result = typed(*args, **keywords)
    except TypeCheckError as error:
        if not str(error).startswith(f"Type-check error whilst checking the parameters of {name}."):
            raise
        _must_refuse(function, args, keywords)
        raise
    for each in (*args, *keywords.values(), result):
        _check_record(each, name)
    return result


def _check_record(value: object, place: str) -> None:
    with jaxtyped("context"):  # axes of the same name agree within the record
        for name, annotation in _shaped_fields(type(value)):
            found = getattr(value, name)
            if not is_bearable(found, annotation):
                got = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, torch.Tensor) else repr(found)
                raise TypeCheckError(f"{type(value).__name__}.{name} must be {annotation}, got {got} in {place}")


def _shaped_fields(cls: type) -> tuple[tuple[str, Any], ...]:
    if not hasattr(cls, "_fields") and not dataclasses.is_dataclass(cls):
        return ()
    return tuple((name, each) for name, each in vars(cls).get("__annotations__", {}).items() if _states_shape(each))


def _must_refuse(function: _Function, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    """Let out the `HeadstockError` that the arguments deserve; return if there is none."""
    __tracebackhide__ = True
    from headstock.errors import HeadstockError  # not at the top: the hook is installed before the package is imported

    try:
        function(*args, **keywords)
    except HeadstockError:
        raise
    except Exception:  # noqa: BLE001 - any other error is a consequence of the shape
        pass


@functools.cache  # made at the first call: annotations in quotes may name what the module defines later
def _typed(function: _Function) -> _Function:
    @functools.wraps(function)
    def plain(*args: Any, **keywords: Any) -> Any:
        return function(*args, **keywords)

    signature = inspect.signature(function)
    parameters = [
        each.replace(annotation=_shape_or_any(function, each.annotation)) for each in signature.parameters.values()
    ]
    plain.__signature__ = signature.replace(  # type: ignore[attr-defined]  # what `inspect.signature` reads first
        parameters=parameters, return_annotation=_shape_or_any(function, signature.return_annotation)
    )
    typed: _Function = jaxtyped(typechecker=beartype)(plain)
    return typed


def _shape_or_any(function: _Function, annotation: Any) -> Any:
    if isinstance(annotation, str):
        annotation = _resolved(function, annotation)
    return annotation if _states_shape(annotation) else Any


def _resolved(function: _Function, annotation: str) -> Any:
    holder = types.SimpleNamespace(__annotations__={"value": annotation})
    try:
        return typing.get_type_hints(holder, function.__globals__)["value"]
    except NameError:  # imported for the type checker only
        return Any


def _may_state_shape(annotation: Any) -> bool:
    return "Tensor" in annotation if isinstance(annotation, str) else _states_shape(annotation)


def _states_shape(annotation: Any) -> bool:
    if isinstance(annotation, list):  # the parameters of a Callable
        return any(map(_states_shape, annotation))
    if isinstance(annotation, type) and (issubclass(annotation, AbstractArray) or _shaped_fields(annotation)):
        return True
    return any(map(_states_shape, typing.get_args(annotation)))


def _yields(function: _Function) -> bool:
    return any(
        test(function)
        for test in (inspect.isgeneratorfunction, inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    )


class _Decorate(ast.NodeTransformer):
    """Puts the decorator on functions outside functions."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        names = {name for each in node.decorator_list for name in _names(each)}
        if not names & _OPERATORS:
            node.decorator_list.append(ast.copy_location(ast.Name(_DECORATOR, ast.Load()), node))
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AsyncFunctionDef:
        return node


def _names(node: ast.AST) -> set[str]:
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return names | {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> types.CodeType:
        """Compile each time: the cached bytecode is that of undecorated functions."""
        path = self.get_filename(fullname)
        tree = _Decorate().visit(ast.parse(self.get_data(path), path))
        code: types.CodeType = compile(tree, path, "exec", dont_inherit=True)
        return code

    def exec_module(self, module: types.ModuleType) -> None:
        module.__dict__[_DECORATOR] = check_shapes
        super().exec_module(module)


class ShapeFinder(MetaPathFinder):
    """Finds the modules of `package` as Python does, and loads them with their shapes checked."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.package and not fullname.startswith(f"{self.package}."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(fullname, spec.loader.path)
        return spec


def install(package: str = "headstock") -> ShapeFinder | None:
    """Check the shapes of `package` from its import on; None where the environment says not to."""
    if os.environ.get("HEADSTOCK_SHAPES") == "0":
        return None
    if package in sys.modules:
        raise RuntimeError(f"the shapes of {package} must be watched before it is imported, and it already is")
    finder = ShapeFinder(package)
    sys.meta_path.insert(0, finder)
    return finder


def uninstall(finder: ShapeFinder) -> None:
    """Leave later imports alone."""
    sys.meta_path.remove(finder)
