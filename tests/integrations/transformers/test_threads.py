"""Ten overrides in ten threads, on one model and on a model for each: nobody computes anything of another's."""

import copy
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from headstock.attention import ALL_ATTENTION_FUNCTIONS
from headstock.overrides import Overrides, apply, overriding
from tests.support.transformers_overrides import headstock_installed, said, under

ROUNDS = 12

# Attention, masks of the whole model and of single layers; each says something else of these tokens.
LOOK_UPS: list[dict[str, Any]] = [
    {"attention": "doubled"},
    {"attention": "eager", "mask": {"join": "sliding_window(2)"}},
    {"attention": "sdpa", "mask": {"join": "sliding_window(3)"}},
    {"attention": "blocked", "mask": {"replace": "bidirectional"}},
    {"mask": {"join": "causal & (sliding_window(4) | first_tokens(1))"}, "checkpoint": "full"},
    {"layers": {"layers.0": {"mask": {"join": "sliding_window(1)"}, "attention": "eager"}}},
    {"layers": {"layers.1": {"mask": {"join": "sliding_window(1)"}}}},
    {"layers": {"layers.0": {"attention": "doubled"}, "layers.1": {"attention": "sdpa"}}},
    {"layers": {"layers.1": {"attention": "doubled", "mask": {"join": "dilated_window(2, 3)"}}}},
    {"mask": {"join": "chunked(5)"}, "checkpoint": {"policy": "every_k", "k": 2}},
]
# What changes modules: of models that have one thread each.
ROPE: list[dict[str, Any]] = [
    {"rope": {"rope_type": "linear", "factor": float(2 + place)}} if place % 2 else {} for place in range(10)
]


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    def doubled(*arguments: Any, **keywords: Any) -> Any:
        output, weights = ALL_ATTENTION_FUNCTIONS["eager"](*arguments, **keywords)
        return 2 * output, weights

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # a thread may be left after few of its steps
    ALL_ATTENTION_FUNCTIONS["doubled"] = doubled
    try:
        with headstock_installed():
            yield
    finally:
        del ALL_ATTENTION_FUNCTIONS["doubled"]
        sys.setswitchinterval(interval)


class Together:
    """Runs of several threads at once, each checked against what it gives alone."""

    def __init__(self, runs: list[Callable[[], Tensor]]) -> None:
        self.runs = runs
        self.expected = [run() for run in runs]
        self.wrong: list[int] = []
        self.most, self._inside, self._lock = 0, 0, threading.Lock()

    def watch(self, model: Any) -> None:
        """Count how many are in the model's forward at once."""
        model.register_forward_pre_hook(lambda *_: self._count(1))
        model.register_forward_hook(lambda *_: self._count(-1))

    def start(self, rounds: int) -> None:
        """Let every run run in a thread of its own, so many times."""
        barrier = threading.Barrier(len(self.runs))

        def repeat(place: int) -> None:
            barrier.wait()
            for _ in range(rounds):
                if not torch.equal(self.runs[place](), self.expected[place]):
                    self.wrong.append(place)

        threads = [threading.Thread(target=repeat, args=(place,)) for place in range(len(self.runs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _count(self, more: int) -> None:
        with self._lock:
            self._inside += more
            self.most = max(self.most, self._inside)


def all_differ(results: list[Tensor]) -> bool:
    return not any(torch.equal(one, other) for place, one in enumerate(results) for other in results[:place])


def in_block(model: Any, chosen: dict[str, Any] | None) -> Callable[[], Tensor]:
    def run() -> Tensor:
        around: AbstractContextManager[object] = nullcontext()
        if chosen is not None:
            around = overriding(model, Overrides.from_dict(chosen))
        with around:
            return said(model)

    return run


def test_ten_blocks_over_one_model_at_once() -> None:
    model = under("llama").train()
    together = Together([in_block(model, chosen) for chosen in (*LOOK_UPS, None)])
    assert len(together.runs) == 11
    assert all_differ(together.expected)
    together.watch(model)
    together.start(ROUNDS)
    assert together.wrong == []
    assert together.most > 1


def test_ten_models_of_one_configuration_with_overrides_applied_and_taken_back_at_once() -> None:
    original = under("llama")
    models = [copy.deepcopy(original) for _ in LOOK_UPS]
    chosen = [Overrides.from_dict({**look_ups, **rope}) for look_ups, rope in zip(LOOK_UPS, ROPE, strict=True)]
    for model in models:
        for module in model.modules():
            if hasattr(module, "config"):
                module.config = original.config

    def applied(place: int) -> Callable[[], Tensor]:
        def run() -> Tensor:
            with apply(models[place], chosen[place]):
                return said(models[place])

        return run

    together = Together([*(applied(place) for place in range(10)), lambda: said(original)])
    assert all_differ(together.expected)
    for model in (*models, original):
        together.watch(model)
    together.start(ROUNDS)
    assert together.wrong == []
    assert together.most > 1
    assert all(torch.equal(said(model), together.expected[-1]) for model in models)


def test_blocks_over_a_model_that_another_thread_applies_to() -> None:
    """Field by field: what a block leaves open is what is applied then, and nothing of another block."""
    model, stop = under("llama"), threading.Event()
    window = Overrides.from_dict({"mask": {"join": "sliding_window(2)"}})
    runs = [
        in_block(model, {**chosen, "mask": {"replace": f"sliding_window({3 + place})"}})
        for place, chosen in enumerate(({"attention": "eager"}, {"attention": "sdpa"}, {"attention": "doubled"}))
    ]
    together = Together(runs)
    assert all_differ(together.expected)

    def apply_again() -> None:
        while not stop.is_set():
            with apply(model, window):
                pass

    thread = threading.Thread(target=apply_again)
    thread.start()
    together.start(ROUNDS)
    stop.set()
    thread.join()
    assert together.wrong == []


def test_that_a_leak_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same over scopes that all threads share: some result is wrong, or some scope is closed by another."""
    from headstock.registry import context, scopes, settings

    class Shared:
        """A context variable without a context."""

        held: Any = ()

        def get(self) -> Any:
            return self.held

        def set(self, value: Any) -> Any:
            before, self.held = self.held, value
            return before

        def reset(self, token: Any) -> None:
            self.held = token

    shared = Shared()
    for module, name in ((context, "FRAMES"), (scopes, "FRAMES"), (settings, "_frames")):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, shared.get if name == "_frames" else shared)
    model, failed = under("llama"), []
    together = Together([in_block(model, chosen) for chosen in LOOK_UPS[:4]])
    monkeypatch.setattr(threading, "excepthook", lambda _: failed.append(1))
    together.start(ROUNDS)
    assert together.wrong or failed
