"""`functools.lru_cache` for methods: one cache per instance, none while torch compiles."""

import functools
import weakref
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Generic, NamedTuple, Self, TypeVar, overload

import torch

from headstock.errors import InvalidComponent

__all__ = ["CacheInfo", "CachedMethod", "InstanceCache", "compile_compatible_method_lru_cache"]

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


class InstanceCache(Generic[R]):
    """A method bound to one instance, with that instance's cache.

    It lives in the instance's `__dict__` and knows the instance weakly, so the two end together, even where a cached
    result refers to the instance. A pickle or deep copy of the instance starts with no cache.
    """

    __name__: str
    __wrapped__: Callable[..., R]

    def __init__(self, function: Callable[..., R], instance: object, settings: _Settings) -> None:
        functools.update_wrapper(self, function)
        self._instance = weakref.ref(instance)
        call = functools.partial(_call_with, function, self._instance)
        self._cached = lru_cache(maxsize=settings.maxsize, typed=settings.typed)(call)

    @property
    def __self__(self) -> Any:
        return self._instance()

    def __call__(self, *args: Any, **keywords: Any) -> R:
        """The method's result, from the cache where it has it."""
        if torch.compiler.is_compiling():
            return self.__wrapped__(self._instance(), *args, **keywords)
        return self._cached(*args, **keywords)

    def cache_info(self) -> CacheInfo:
        """This instance's hits, misses and size."""
        return CacheInfo(*self._cached.cache_info())

    def cache_clear(self) -> None:
        """Forget this instance's results."""
        self._cached.cache_clear()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()


class CachedMethod(Generic[R]):
    """What `compile_compatible_method_lru_cache` makes of a function: a method with a cache per instance.

    A function outside a class, and a call whose first argument can hold no cache, use one shared cache.
    """

    __name__: str

    def __init__(self, function: Callable[..., R], settings: _Settings) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._settings = settings
        self._shared = lru_cache(maxsize=settings.maxsize, typed=settings.typed)(function)
        self._caches: weakref.WeakSet[InstanceCache[R]] = weakref.WeakSet()
        self._key = f"lru_cache of {function.__module__}.{function.__qualname__}"
        self._in_class = function.__qualname__.rpartition(".")[0].rpartition(".")[2] not in {"", "<locals>"}

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> InstanceCache[R]: ...

    def __get__(self, instance: object | None, owner: type | None = None) -> Any:
        if instance is None:
            return self
        if torch.compiler.is_compiling():
            # Not a bound method: dynamo would write it back as `instance.method`, and come here again without end.
            return functools.partial(self._function, instance)
        if isinstance(instance, type):  # as a class method
            return functools.partial(self, instance)
        if not _can_hold_cache(instance):
            raise InvalidComponent(
                f"an instance must have a __dict__ and take weak references to hold the {self._key}, got "
                f"{type(instance).__name__}; add '__dict__' and '__weakref__' to its __slots__"
            )
        return self._cache_of(instance)

    def __call__(self, *args: Any, **keywords: Any) -> R:
        """The function's result, from the cache of the instance that is the first argument."""
        if torch.compiler.is_compiling():
            return self._function(*args, **keywords)
        if self._in_class and args and _can_hold_cache(args[0]):
            return self._cache_of(args[0])(*args[1:], **keywords)
        return self._shared(*args, **keywords)

    def _cache_of(self, instance: Any) -> InstanceCache[R]:
        held: InstanceCache[R] | None = instance.__dict__.get(self._key)
        if held is None or held.__self__ is not instance:  # a shallow copy holds the cache of its original
            held = instance.__dict__[self._key] = InstanceCache(self._function, instance, self._settings)
            self._caches.add(held)
        return held

    def cache_info(self) -> CacheInfo:
        """The hits, misses and sizes of all instances together."""
        infos = [self._shared.cache_info(), *(each.cache_info() for each in self._caches)]
        hits, misses, size = (
            sum(counts) for counts in zip(*((each[0], each[1], each[3]) for each in infos), strict=True)
        )
        return CacheInfo(hits, misses, self._settings.maxsize, size)

    def cache_clear(self) -> None:
        """Forget the results of all instances."""
        self._shared.cache_clear()
        for each in self._caches:
            each.cache_clear()

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
