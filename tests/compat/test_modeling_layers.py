import functools
import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from headstock.compat import modeling_layers
from headstock.compat.modeling_layers import ActivationCheckpointingMixin, GradientCheckpointingLayer
from headstock.errors import InvalidConfig, UnsupportedFeature
from headstock.layers.checkpointing.functions import Checkpoint
from headstock.layers.checkpointing.policies.offload import OffloadedCheckpoint
from tests.support.checkpointing import CacheRecorder, run, same


def _layer_class(base: type[nn.Module]) -> type[Any]:
    class DecoderLayer(base):  # type: ignore[misc, valid-type]  # the base is the parameter
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.got: list[tuple[Any, ...]] = []

        def forward(
            self,
            hidden_states: Tensor,
            attention_mask: Tensor | None = None,
            past_key_values: Any = None,
            layer_past: Any = None,
            use_cache: bool = False,
            state: Any = None,
        ) -> Tensor:
            self.got.append((past_key_values, layer_past, use_cache, state))
            hidden = torch.nn.functional.dropout(self.linear(hidden_states).tanh(), 0.5, self.training)
            return hidden if attention_mask is None else hidden * attention_mask

    return DecoderLayer


Layer = _layer_class(GradientCheckpointingLayer)


class Model(ActivationCheckpointingMixin, nn.Sequential):
    pass


@pytest.fixture(autouse=True)
def _forget_messages() -> None:
    modeling_layers._log_once.cache_clear()


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize(
    "keywords",
    [{}, {"use_cache": True}, {"past_key_values": CacheRecorder(), "use_cache": True}, {"layer_past": (1, 2)}],
)
def test_a_layer_does_what_transformers_does(keywords: dict[str, Any], use_reentrant: bool) -> None:
    theirs = _layer_class(pytest.importorskip("transformers.modeling_layers").GradientCheckpointingLayer)()
    ours = Layer()
    ours.load_state_dict(theirs.state_dict())
    for layer in (ours, theirs):
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = functools.partial(checkpoint, use_reentrant=use_reentrant)
    hidden, mask = torch.randn(3, 4, requires_grad=True), torch.ones(3, 4)
    runs = [
        run(layer, lambda hidden, layer=layer: layer(hidden, attention_mask=mask, **keywords), hidden=hidden)
        for layer in (ours, theirs)
    ]
    assert same(*runs)
    assert ours.got == theirs.got == [(None, None, False, None)] * 2


@pytest.mark.parametrize(
    ("args", "keywords", "told"),
    [
        ((), {"past_key_values": CacheRecorder()}, "past_key_values=None"),
        ((None, CacheRecorder()), {}, "past_key_values=None"),
        ((None, CacheRecorder(), None, True), {}, "use_cache=False, past_key_values=None"),
        ((), {"state": CacheRecorder(), "use_cache": True}, "use_cache=False, state=None"),
    ],
)
def test_a_cache_is_dropped_and_logged_once(
    args: tuple[Any, ...], keywords: dict[str, Any], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = Model(Layer(), Layer())
    model.activation_checkpointing_enable()
    with caplog.at_level(logging.WARNING):
        for layer in model:
            layer(torch.randn(3, 4, requires_grad=True), *args, **keywords).sum().backward()
    assert [record.getMessage() for record in caplog.records] == [
        f"caching and checkpointing exclude each other in DecoderLayer: goes on with {told}"
    ]
    layers: list[Any] = list(model)
    assert [layer.got for layer in layers] == [[(None, None, False, None)] * 2] * 2


def test_a_layer_that_only_reads_keeps_its_cache(caplog: pytest.LogCaptureFixture) -> None:
    layer, cache = Layer(), CacheRecorder()
    layer._can_checkpoint_with_cache = layer.gradient_checkpointing = True
    layer(torch.randn(3, 4), past_key_values=cache, use_cache=True).sum().backward()
    assert layer.got == [(cache, None, False, None)] * 2
    assert len(caplog.records) == 1


def test_a_cache_deep_in_another_argument_is_refused() -> None:
    layer = Layer()
    layer.gradient_checkpointing = True
    with pytest.raises(UnsupportedFeature, match="must get no cache, got state=list in DecoderLayer"):
        layer(torch.randn(3, 4), state=[CacheRecorder()])


@pytest.mark.parametrize("training", [True, False])
def test_without_recomputation_caches_stay(training: bool, caplog: pytest.LogCaptureFixture) -> None:
    layer, cache = Layer().train(training), CacheRecorder()
    layer.gradient_checkpointing = not training
    layer(torch.randn(3, 4), past_key_values=cache, use_cache=True)
    assert layer.got == [(cache, None, True, None)]
    assert caplog.records == []


def test_a_compiled_frame_drops_caches_too() -> None:
    class Doubling(GradientCheckpointingLayer):
        def forward(self, hidden_states: Tensor, past_key_values: Any = None) -> Tensor:
            return hidden_states.tanh() * (1 if past_key_values is None else 2)

    layer = Doubling()
    layer.gradient_checkpointing = True
    hidden = torch.randn(3, 4, requires_grad=True)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(hidden, past_key_values=CacheRecorder()), hidden.tanh())


def test_models_switch_by_transformers_names() -> None:
    model = Model(Layer(), Layer(), Layer())
    seen = [model.is_activation_checkpointing]
    model.activation_checkpointing_enable({"use_reentrant": True}, every_n_layers=2)
    seen.append(model.is_activation_checkpointing)
    assert [layer.gradient_checkpointing for layer in model] == [True, False, True]
    assert model[0]._gradient_checkpointing_func == Checkpoint(use_reentrant=True)
    model.activation_checkpointing_disable()
    assert [*seen, model.is_activation_checkpointing] == [False, True, False]


def test_the_default_mode_is_not_reentrant() -> None:
    model = Model(Layer())
    model.activation_checkpointing_enable(offload=True)
    assert model[0]._gradient_checkpointing_func == OffloadedCheckpoint(Checkpoint())


@pytest.mark.parametrize("offload", [False, True])
def test_keywords_of_torch_s_function_reach_it(offload: bool) -> None:
    model = Model(Layer(), Layer())
    hidden = torch.randn(3, 4, requires_grad=True)
    plain = run(model, model, input=hidden)
    model.activation_checkpointing_enable({"preserve_rng_state": False, "early_stop": False}, offload=offload)
    function: Any = model[0]._gradient_checkpointing_func
    inner = function.inner if offload else function
    assert inner.keywords == {"use_reentrant": False, "preserve_rng_state": False, "early_stop": False}
    assert not same(plain, run(model, model, input=hidden))  # dropout was asked not to be replayed


def test_a_wrong_distance_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="must be a positive integer, got 0"):
        Model(Layer()).activation_checkpointing_enable(every_n_layers=0)


def test_a_model_without_such_layers_is_refused() -> None:
    with pytest.raises(UnsupportedFeature, match="must contain a GradientCheckpointingLayer"):
        Model(nn.Linear(2, 2)).activation_checkpointing_enable()


def test_the_old_names_work_and_warn() -> None:
    model = Model(Layer())
    with pytest.warns(
        FutureWarning, match="gradient_checkpointing_enable is deprecated.*use activation_checkpointing_e"
    ):
        model.gradient_checkpointing_enable({"use_reentrant": True}, every_n_layers=1)
    with pytest.warns(FutureWarning, match="is_gradient_checkpointing is deprecated.*use is_activation_checkpointing"):
        assert model.is_gradient_checkpointing
    with pytest.warns(
        FutureWarning, match="gradient_checkpointing_disable is deprecated.*use activation_checkpointing_d"
    ):
        model.gradient_checkpointing_disable()
    assert not model.is_activation_checkpointing
