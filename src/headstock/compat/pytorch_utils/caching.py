"""`functools.lru_cache` for methods: one cache per instance, none while torch compiles."""

import functools
import inspect
import weakref
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Generic, NamedTuple, Self, TypeVar, overload

import torch

from headstock.errors import InvalidComponent

__all__ = ["BoundCachedMethod", "CacheInfo", "CachedMethod", "compile_compatible_method_lru_cache"]

R = TypeVar("R")


class CacheInfo(NamedTuple):
    """`functools.lru_cache`'s statistics, summed where several caches are asked; `maxsize` is that of one instance."""

    hits: int
    misses: int
    maxsize: int | None
    currsize: int


class _Settings(NamedTuple):
    maxsize: int | None
    typed: bool


class _InstanceCache(Generic[R]):
    """The results of one method of one instance.

    It lives in the instance's `__dict__` and knows the instance weakly, so that the two end together, even where a
    result refers to the instance. A pickle or deep copy of the instance gets None for it.
    """

    def __init__(self, function: Callable[..., R], instance: object, settings: _Settings) -> None:
        self.instance = weakref.ref(instance)
        call = functools.partial(_call_with, function, self.instance)
        self.call = lru_cache(maxsize=settings.maxsize, typed=settings.typed)(call)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()


class BoundCachedMethod(Generic[R]):
    """A cached method bound to an instance, which it keeps alive as every bound method does."""

    def __init__(self, method: "CachedMethod[R]", instance: object) -> None:
        self.__func__ = method
        self.__self__ = instance

    def __call__(self, *args: Any, **keywords: Any) -> R:
        """The method's result, from the cache where it has it."""
        if torch.compiler.is_compiling():
            return self.__func__(self.__self__, *args, **keywords)
        return self.__func__.cache_of(self.__self__).call(*args, **keywords)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__func__, name)  # as bound methods do; only asked for what is not found here

    @property
    def __signature__(self) -> inspect.Signature:
        signature = inspect.signature(self.__func__)
        return signature.replace(parameters=list(signature.parameters.values())[1:])

    def cache_info(self) -> CacheInfo:
        """This instance's hits, misses and size."""
        return CacheInfo(*self.__func__.cache_of(self.__self__).call.cache_info())

    def cache_clear(self) -> None:
        """Forget this instance's results."""
        self.__func__.cache_of(self.__self__).call.cache_clear()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BoundCachedMethod):
            return NotImplemented
        return self.__func__ is other.__func__ and self.__self__ is other.__self__

    def __hash__(self) -> int:
        return hash((id(self.__func__), id(self.__self__)))

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.__self__, self.__name__)


class CachedMethod(Generic[R]):
    """What `compile_compatible_method_lru_cache` makes of a function: a method with a cache per instance.

    A function outside a class, and a call whose first argument can hold no cache, use one shared cache.
    """

    __name__: str
    __wrapped__: Callable[..., R]

    def __init__(self, function: Callable[..., R], settings: _Settings) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._settings = settings
        self._shared = lru_cache(maxsize=settings.maxsize, typed=settings.typed)(function)
        self._caches: weakref.WeakSet[_InstanceCache[R]] = weakref.WeakSet()
        self._key = f"lru_cache of {function.__module__}.{function.__qualname__}"
        self._in_class = function.__qualname__.rpartition(".")[0].rpartition(".")[2] not in {"", "<locals>"}

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> BoundCachedMethod[R]: ...

    def __get__(self, instance: object | None, owner: type | None = None) -> Any:
        if instance is None:
            return self
        if torch.compiler.is_compiling():
            # Not a bound method: dynamo would write it back as `instance.method`, and come here again without end.
            return functools.partial(self._function, instance)
        if isinstance(instance, type):  # as a class method
            return functools.partial(self, instance)
        return BoundCachedMethod(self, instance)

    def __call__(self, *args: Any, **keywords: Any) -> R:
        """The function's result, from the cache of the instance that is the first argument."""
        if torch.compiler.is_compiling():
            return self._function(*args, **keywords)
        if self._in_class and args and _can_hold_cache(args[0]):
            return self.cache_of(args[0]).call(*args[1:], **keywords)
        return self._shared(*args, **keywords)

    def cache_of(self, instance: Any) -> _InstanceCache[R]:
        """The results for `instance`, empty ones where it has none yet.

        Raises:
            InvalidComponent: the instance has no place for them.
        """
        held: _InstanceCache[R] | None = getattr(instance, "__dict__", {}).get(self._key)
        if held is None or held.instance() is not instance:  # a shallow copy holds the cache of its original
            held = self._new_cache(instance)
        return held

    def _new_cache(self, instance: Any) -> _InstanceCache[R]:
        if not _can_hold_cache(instance):
            raise InvalidComponent(
                f"an instance must have a __dict__ and take weak references to hold the {self._key}, got "
                f"{type(instance).__name__}; add '__dict__' and '__weakref__' to its __slots__"
            )
        made = instance.__dict__[self._key] = _InstanceCache(self._function, instance, self._settings)
        self._caches.add(made)
        return made

    def cache_info(self) -> CacheInfo:
        """The hits, misses and sizes of all instances together."""
        infos = [self._shared.cache_info(), *(each.call.cache_info() for each in self._caches)]
        hits, misses, size = (
            sum(counts) for counts in zip(*((each[0], each[1], each[3]) for each in infos), strict=True)
        )
        return CacheInfo(hits, misses, self._settings.maxsize, size)

    def cache_clear(self) -> None:
        """Forget the results of all instances."""
        self._shared.cache_clear()
        for each in self._caches:
            each.call.cache_clear()

    def __reduce__(self) -> str:
        return self._function.__qualname__  # pickle's way to write a global by name


def _can_hold_cache(instance: object) -> bool:
    return isinstance(getattr(instance, "__dict__", None), dict) and type(instance).__weakrefoffset__ != 0


def _call_with(function: Callable[..., R], instance: "weakref.ref[Any]", /, *args: Any, **keywords: Any) -> R:
    return function(instance(), *args, **keywords)


@overload
def compile_compatible_method_lru_cache(maxsize: Callable[..., R], typed: bool = ...) -> CachedMethod[R]: ...
@overload
def compile_compatible_method_lru_cache(
    maxsize: int | None = ..., typed: bool = ...
) -> Callable[[Callable[..., R]], CachedMethod[R]]: ...


def compile_compatible_method_lru_cache(maxsize: int | Callable[..., Any] | None = 128, typed: bool = False) -> Any:
    """`functools.lru_cache` for methods, with a cache per instance, and none while torch compiles or exports.

    Unlike `lru_cache`, it does not keep instances alive, needs them neither hashable nor comparable, and gives each
    its own `maxsize` results. `instance.method.cache_clear()` and `.cache_info()` are about that instance,
    `Class.method.cache_clear()` about all. Cache only what follows from the arguments: results that depend on
    parameters of the instance go stale in training. Under `fullgraph=True`, call an overridden method as
    `Base.method(self, ...)`: through `super()`, dynamo traces plain functions alone.

    Raises:
        TypeError: `maxsize` is no number, callable or None.
        InvalidComponent: at a call, when the instance can hold no cache because of its `__slots__`.

    Example:
        >>> class Positions:
        ...     @compile_compatible_method_lru_cache(maxsize=32)
        ...     def of(self, length): return torch.arange(length)
        >>> positions = Positions()
        >>> positions.of(3) is positions.of(3), positions.of.cache_info()
        (True, CacheInfo(hits=1, misses=1, maxsize=32, currsize=1))
    """
    if callable(maxsize):
        return CachedMethod(maxsize, _Settings(128, typed))
    lru_cache(maxsize=maxsize, typed=typed)  # refuses what is no size, before there is anything to cache
    settings = _Settings(None if maxsize is None else max(maxsize, 0), typed)
    return lambda function: CachedMethod(function, settings)
