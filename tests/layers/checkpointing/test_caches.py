from typing import Any

import pytest
import torch
from torch import Tensor

from headstock.errors import UnsupportedFeature
from headstock.layers.checkpointing import GradientCheckpointingLayer, set_gradient_checkpointing
from headstock.layers.checkpointing.caches import CACHE_ARGUMENTS, cache_arguments, is_cache
from tests.support.checkpointing import CacheRecorder, run, same


class Decoder(GradientCheckpointingLayer):
    """A layer that writes to any cache it gets, as decoder layers do."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(4))

    def forward(
        self,
        hidden_states: Tensor,
        past_key_values: CacheRecorder | None = None,
        use_cache: bool = False,
        *rest: Any,
        state: Any = None,
    ) -> Tensor:
        for each in (past_key_values, state, *rest):
            if isinstance(each, CacheRecorder):
                each.update(hidden_states, hidden_states, 0)
        return (hidden_states * self.weight).tanh()


class Reader(Decoder):
    _can_checkpoint_with_cache = True


CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("past_key_values=CacheRecorder", (), {"past_key_values": CacheRecorder()}),
    ("past_key_values=CacheRecorder", (CacheRecorder(), True), {}),
    ("past_key_values=tuple", (), {"past_key_values": (torch.zeros(2), torch.zeros(2))}),
    ("state=CacheRecorder", (), {"state": CacheRecorder()}),
    ("state=list", (), {"state": [{"layer": (CacheRecorder(),)}]}),
    ("positional argument 3=CacheRecorder", (None, False, CacheRecorder()), {}),
]


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize(("told", "args", "keywords"), CALLS)
def test_a_cache_is_refused_by_name_position_and_kind(
    told: str, args: tuple[Any, ...], keywords: dict[str, Any], use_reentrant: bool
) -> None:
    layer = Decoder()
    set_gradient_checkpointing(layer, use_reentrant=use_reentrant)
    name = told.partition("=")[0]
    with pytest.raises(
        UnsupportedFeature,
        match=f"must get no cache, got {told} in Decoder, .* pass {name}=None .*_can_checkpoint_with_cache = True",
    ):
        layer(torch.randn(4), *args, **keywords)


def test_a_refused_cache_was_not_written() -> None:
    layer, cache = Decoder(), CacheRecorder()
    set_gradient_checkpointing(layer)
    with pytest.raises(UnsupportedFeature, match="must get no cache"):
        layer(torch.randn(4), cache)
    assert cache.writes == 0


def test_a_layer_that_only_reads_caches_may_get_them() -> None:
    layer, cache = Reader(), CacheRecorder()
    set_gradient_checkpointing(layer)
    layer(torch.randn(4), cache).sum().backward()
    assert cache.writes == 2  # this one does write: the flag is the author's word


@pytest.mark.parametrize("training", [True, False])
def test_caches_pass_where_nothing_is_recomputed(training: bool) -> None:
    layer, cache = Decoder().train(training), CacheRecorder()
    set_gradient_checkpointing(layer)
    with torch.set_grad_enabled(not training):
        layer(torch.randn(4), cache)
    assert cache.writes == 1


@pytest.mark.parametrize("flags", [{"use_cache": True}, {"past_key_values": False}, {"past_key_values": None}])
def test_a_flag_without_a_cache_changes_nothing(flags: dict[str, Any]) -> None:
    layer = Decoder()
    hidden = torch.randn(4, requires_grad=True)
    plain = run(layer, lambda hidden: layer(hidden, **flags), hidden=hidden)
    set_gradient_checkpointing(layer)
    assert same(plain, run(layer, lambda hidden: layer(hidden, **flags), hidden=hidden))


@pytest.mark.parametrize("name", sorted(CACHE_ARGUMENTS))
def test_every_usual_name_of_a_cache_is_known(name: str) -> None:
    assert list(cache_arguments({"hidden_states": torch.zeros(2), name: torch.zeros(2)})) == [name]


def test_transformers_caches_are_caches() -> None:
    transformers = pytest.importorskip("transformers")
    assert is_cache(transformers.DynamicCache())
    assert is_cache(transformers.EncoderDecoderCache(transformers.DynamicCache(), transformers.DynamicCache()))


@pytest.mark.parametrize("value", [{}, {"a": 1}, set(), CacheRecorder, torch.zeros(2), None, "cache"])
def test_what_merely_resembles_a_cache_is_none(value: object) -> None:
    assert not is_cache(value)
    assert list(cache_arguments({"state": value})) == []
