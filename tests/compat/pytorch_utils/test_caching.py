import copy
import functools
import gc
import inspect
import io
import pickle
import threading
import weakref
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._dynamo.exc import Unsupported
from transformers.pytorch_utils import compile_compatible_method_lru_cache as their_cache

from headstock.compat.pytorch_utils import compile_compatible_method_lru_cache
from headstock.errors import InvalidComponent


class Positions(nn.Module):
    """A module with a cached method, as vision models have."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.calls = 0
        self.weight = nn.Parameter(torch.randn(2))

    @compile_compatible_method_lru_cache(maxsize=2)
    def of(self, length: int, *, start: int = 0) -> Tensor:
        """Positions from `start`."""
        self.calls += 1
        return torch.arange(start, start + length) * self.scale

    def forward(self, x: Tensor) -> Tensor:
        return x + self.of(x.shape[-1])


class Child(Positions):
    """Overrides the method and calls the one of its base."""

    @compile_compatible_method_lru_cache(maxsize=2)
    def of(self, length: int, *, start: int = 0) -> Tensor:
        return super().of(length, start=start) + 100


@compile_compatible_method_lru_cache(maxsize=4)
def squares(length: int) -> list[int]:
    """A function outside a class."""
    return [each**2 for each in range(length)]


def test_a_second_call_takes_the_first_ones_result() -> None:
    owner = Positions()
    assert owner.of(3) is owner.of(3)
    assert owner.of(3, start=1) is owner.of(3, start=1)
    assert owner.calls == 2


def test_each_instance_has_results_of_its_own() -> None:
    one, other = Positions(1.0), Positions(2.0)
    assert (one.of(3).tolist(), other.of(3).tolist()) == ([0, 1, 2], [0, 2, 4])


def test_maxsize_counts_per_instance() -> None:
    one, other = Positions(), Positions()
    first = one.of(1)
    for length in (1, 2):
        other.of(length)
    one.of(2)
    assert one.of(1) is first
    one.of(3)
    assert one.of.cache_info() == (1, 3, 2, 2)
    one.of(2)
    assert one.calls == 4


def test_statistics_and_clearing_are_per_instance_and_for_all() -> None:
    Positions.of.cache_clear()  # of instances that other tests have left behind
    one, other = Positions(), Positions()
    one.of(1), one.of(1), other.of(1)
    assert (one.of.cache_info(), other.of.cache_info()) == ((1, 1, 2, 1), (0, 1, 2, 1))
    assert Positions.of.cache_info() == (1, 2, 2, 2)
    one.of.cache_clear()
    assert (one.of.cache_info(), other.of.cache_info()) == ((0, 0, 2, 0), (0, 1, 2, 1))
    Positions.of.cache_clear()
    assert Positions.of.cache_info() == (0, 0, 2, 0)
    other.of(1)
    assert other.calls == 2


def test_an_instance_ends_when_its_last_user_lets_go() -> None:
    owner = Positions()
    owner.of(3)
    ended = weakref.ref(owner)
    gc.disable()
    try:
        del owner
        assert ended() is None
    finally:
        gc.enable()


def test_an_instance_ends_even_if_a_result_refers_to_it() -> None:
    class Holder:
        @compile_compatible_method_lru_cache()
        def itself(self) -> "Holder":
            return self

    holder = Holder()
    assert holder.itself() is holder
    ended = weakref.ref(holder)
    del holder
    gc.collect()
    assert ended() is None


def test_transformers_keeps_instances_alive() -> None:
    """Why this is written anew."""

    class Holder:
        @their_cache()  # type: ignore[untyped-decorator]  # theirs is untyped
        def of(self, length: int) -> int:
            return length

    holder = Holder()
    holder.of(3)
    ended = weakref.ref(holder)
    del holder
    gc.collect()
    assert ended() is not None
    assert not hasattr(Holder.of, "cache_clear")


def test_overriding_methods_have_caches_of_their_own() -> None:
    owner = Child()
    assert owner.of(2).tolist() == [100, 101]
    assert owner.of(2) is owner.of(2)
    assert Positions.of(owner, 2, start=0).tolist() == [0, 1]
    assert owner.calls == 1


def test_calls_through_the_class_use_the_instances_cache() -> None:
    owner = Positions()
    assert Positions.of(owner, 3) is owner.of(3)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda owner: pickle.loads(pickle.dumps(owner))])
def test_copies_start_without_results(copied: Any) -> None:
    owner = Positions(1.0)
    owner.of(3)
    other = copied(owner)
    other.scale = 2.0
    assert other.of(3).tolist() == [0, 2, 4]
    assert owner.of(3).tolist() == [0, 1, 2]
    assert (other.of.cache_info().misses, owner.of.cache_info().hits) == (1, 1)


def test_modules_save_and_compare_as_if_they_had_no_cache() -> None:
    owner = Positions()
    owner.of(3)
    assert list(owner.state_dict()) == ["weight"]
    saved = io.BytesIO()
    torch.save(owner, saved)
    saved.seek(0)
    assert torch.load(saved, weights_only=False).of(2).tolist() == [0, 1]


@dataclass
class Unhashable:
    """Compares by value and so has no hash; `lru_cache` alone cannot serve it."""

    factor: int

    @compile_compatible_method_lru_cache()
    def times(self, number: int) -> int:
        return self.factor * number


def test_instances_need_no_hash() -> None:
    one, other = Unhashable(2), Unhashable(2)
    assert (one.times(3), one.times(3), other.times(3)) == (6, 6, 6)
    assert (one.times.cache_info().hits, other.times.cache_info().hits) == (1, 0)
    assert one == other


def test_unhashable_arguments_are_refused_as_by_lru_cache() -> None:
    with pytest.raises(TypeError, match="unhashable type: 'list'"):
        Unhashable(2).times([1])


class Slotted:
    __slots__ = ("factor",)

    @compile_compatible_method_lru_cache()
    def of(self, number: int) -> int:
        return number


class WithoutWeakReferences:
    __slots__ = ("__dict__",)

    @compile_compatible_method_lru_cache()
    def of(self, number: int) -> int:
        return number


@pytest.mark.parametrize("make", [Slotted, WithoutWeakReferences])
def test_instances_that_can_hold_no_cache_are_refused(make: Any) -> None:
    with pytest.raises(
        InvalidComponent, match=rf"__dict__ and take weak references .*{make.__name__}.of, got {make.__name__};"
    ):
        make().of(3)


def test_functions_outside_a_class_share_one_cache() -> None:
    squares.cache_clear()
    assert squares(3) is squares(3)
    assert squares(length=3) == [0, 1, 4]
    assert squares.cache_info() == (1, 2, 4, 2)
    squares.cache_clear()
    assert squares.cache_info() == (0, 0, 4, 0)


def test_functions_outside_a_class_copy_and_pickle_as_functions_do() -> None:
    assert copy.deepcopy(squares) is squares
    assert pickle.loads(pickle.dumps(squares)) is squares


class Decorated:
    """Every other way to put the decorator into a class."""

    @classmethod
    @compile_compatible_method_lru_cache()
    def by_class(cls, number: int) -> list[Any]:
        return [cls, number]

    @staticmethod
    @compile_compatible_method_lru_cache()
    def static(number: int) -> list[int]:
        return [number]

    @compile_compatible_method_lru_cache
    def bare(self, number: int) -> list[int]:
        return [number]

    @property
    @compile_compatible_method_lru_cache()
    def computed(self) -> list[int]:
        return [1]


def test_class_methods_static_methods_properties_and_bare_decorators_work() -> None:
    owner = Decorated()
    assert Decorated.by_class(3) is owner.by_class(3)
    assert Decorated.by_class(3) == [Decorated, 3]
    assert Decorated.static(3) is owner.static(3)
    assert owner.bare(3) is owner.bare(3)
    assert owner.bare.cache_info().maxsize == 128
    assert owner.computed is owner.computed
    ended = weakref.ref(owner)
    del owner
    assert ended() is None


def test_types_are_told_apart_when_asked_for() -> None:
    class Typed:
        @compile_compatible_method_lru_cache(typed=True)
        def of(self, first: float, second: float) -> str:
            return f"{first} {second}"

    class Untyped(Typed):
        of = compile_compatible_method_lru_cache()(Typed.of.__wrapped__)

    typed, untyped = Typed(), Untyped()
    assert (typed.of(1, 2), typed.of(1.0, 2)) == ("1 2", "1.0 2")
    assert (untyped.of(1, 2), untyped.of(1.0, 2)) == ("1 2", "1 2")


@pytest.mark.parametrize(("given", "told"), [(None, None), (0, 0), (-3, 0)])
def test_sizes_are_those_of_lru_cache(given: int | None, told: int | None) -> None:
    class Owner:
        @compile_compatible_method_lru_cache(given)
        def of(self, number: int) -> list[int]:
            return [number]

    owner = Owner()
    assert (owner.of(1) is owner.of(1)) is (given is None)
    assert owner.of.cache_info().maxsize == Owner.of.cache_info().maxsize == told
    assert functools.lru_cache(given)(repr).cache_info().maxsize == told


def test_a_wrong_size_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="Expected first argument to be an integer, a callable, or None"):
        compile_compatible_method_lru_cache("many")  # type: ignore[call-overload]  # what is refused


def test_names_documentation_and_signature_are_the_functions() -> None:
    assert (Positions.of.__name__, Positions.of.__doc__) == ("of", "Positions from `start`.")
    assert list(inspect.signature(Positions.of).parameters) == ["self", "length", "start"]
    owner = Positions()
    assert owner.of.__self__ is owner
    assert owner.of.__name__ == "of"
    assert inspect.signature(owner.of) == inspect.signature(Plain().of)
    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        owner.of.missing  # noqa: B018  # the look-up is what is tested


class Plain:
    """The same method without a cache."""

    def of(self, length: int, *, start: int = 0) -> Tensor:
        return torch.arange(start, start + length)


def test_a_bound_method_keeps_its_instance_alive_as_every_bound_method_does() -> None:
    assert Positions(2.0).of(3).tolist() == [0, 2, 4]
    kept = Positions(2.0).of
    gc.collect()
    assert kept(3).tolist() == [0, 2, 4]


def test_bound_methods_compare_copy_and_pickle_as_others_do() -> None:
    one, other = Positions(2.0), Positions(2.0)
    assert one.of == one.of
    assert len({one.of, one.of, other.of}) == 2
    assert one.of != other.of
    assert one.of != "of"
    for copied in (copy.deepcopy(one.of), pickle.loads(pickle.dumps(one.of))):
        assert copied(3).tolist() == [0, 2, 4]
        assert copied.__self__ is not one


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 4)), max_size=30))
def test_statistics_are_those_of_one_lru_cache_per_instance(calls: list[tuple[int, int]]) -> None:
    owners = [Positions(), Positions()]
    models = [functools.lru_cache(maxsize=2)(lambda length: length) for _ in owners]
    for which, length in calls:
        owners[which].of(length)
        models[which](length)
    for owner, model in zip(owners, models, strict=True):
        assert tuple(owner.of.cache_info()) == tuple(model.cache_info())


def test_threads_share_an_instances_cache() -> None:
    owner = Positions()
    results: list[Tensor] = []
    threads = [threading.Thread(target=lambda: results.append(owner.of(4))) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [each.tolist() for each in results] == [[0, 1, 2, 3]] * 8


def compiled(function: Any) -> Any:
    return torch.compile(function, fullgraph=True, backend="eager")


@pytest.mark.parametrize("cached_before", [False, True])
def test_compiles_in_one_graph_without_the_cache(cached_before: bool) -> None:
    owner, x = Positions(), torch.randn(3)
    if cached_before:
        owner.of(3)
    before = owner.of.cache_info()
    assert torch.equal(compiled(owner)(x), x + torch.arange(3))
    assert owner.of.cache_info() == before


def test_compiles_calls_through_the_class_and_of_a_kept_method() -> None:
    owner, x = Positions(), torch.randn(3)
    kept = owner.of
    assert torch.equal(compiled(lambda x: x + Positions.of(owner, 3))(x), x + torch.arange(3))
    assert torch.equal(compiled(lambda x: x + kept(3))(x), x + torch.arange(3))
    assert owner.of.cache_info().currsize == 0


def test_compiled_code_may_call_the_overridden_method_through_its_class_but_not_through_super() -> None:
    """dynamo traces `super().name()` only where `name` is a plain function, which has no caches to ask for."""

    class Other(Positions):
        @compile_compatible_method_lru_cache()
        def of(self, length: int, *, start: int = 0) -> Tensor:
            return Positions.of(self, length, start=start) + 100

    x = torch.randn(3)
    assert torch.equal(compiled(Other())(x), x + torch.arange(3) + 100)
    with pytest.raises(Unsupported, match=r"super\(\)"):
        compiled(Child())(x)
    assert torch.equal(torch.compile(Child(), backend="eager")(x), x + torch.arange(3) + 100)


class Breaking(Positions):
    """Breaks the graph where dynamo can only give up the whole frame and compile what it calls."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            torch._dynamo.graph_break()
            x = x + self.of(x.shape[-1])
        return x


def test_compiles_in_pieces() -> None:
    owner, x = Breaking(), torch.randn(3)
    run = torch.compile(owner, backend="eager")
    for scale in (1.0, 2.0):
        owner.scale = scale
        assert torch.equal(run(x), x + scale * torch.arange(3) + scale * torch.arange(3))


def test_compiled_code_follows_what_the_cache_would_hide() -> None:
    owner, x = Positions(), torch.randn(3)
    run = compiled(owner)
    owner.of(3)
    run(x)
    owner.scale = 3.0
    assert torch.equal(run(x), x + 3 * torch.arange(3))


def test_exports() -> None:
    owner, x = Positions(), torch.randn(3)
    assert torch.equal(torch.export.export(owner, (x,)).module()(x), owner(x))
