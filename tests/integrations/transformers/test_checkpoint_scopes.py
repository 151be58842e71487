"""Checkpoint policies of blocks in transformers' layers: seen in the block, by its thread, and nowhere else."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from headstock.errors import UnsupportedFeature
from headstock.integrations.transformers import install, uninstall
from headstock.integrations.transformers.checkpoint_scopes import (
    check_reads_scopes,
    read_scopes,
    read_scopes_no_more,
)
from headstock.overrides import Overrides, apply, overriding
from tests.support.overrides import everything, in_layers, overrides
from tests.support.tiny_transformers import checkpoint_layers
from tests.support.transformers_overrides import KEEP, TOKENS, headstock_installed, under

EVERY_OTHER = {"policy": "every_k", "k": 2}


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    with headstock_installed():
        yield


def flags(model: Any) -> list[bool]:
    return [layer.gradient_checkpointing for layer in model.model.layers]


def counting(model: Any) -> list[int]:
    """How often the forward of each layer's MLP has run."""
    counts = [0] * len(model.model.layers)

    def counted(place: int) -> Callable[..., None]:
        def count(*_: Any) -> None:
            counts[place] += 1

        return count

    for place, layer in enumerate(model.model.layers):
        layer.mlp.register_forward_pre_hook(counted(place))
    return counts


def gradients(model: Any, block: Overrides | None = None, inside: bool = False) -> list[Tensor]:
    """Of a loss that is computed in a block, and differentiated in it or after it."""
    model.zero_grad()

    def loss() -> Tensor:
        found: Tensor = model(TOKENS, attention_mask=KEEP, use_cache=False).logits.square().mean()
        return found

    if block is None:
        loss().backward()
    elif inside:
        with overriding(model, block):
            loss().backward()
    else:
        with overriding(model, block):
            found = loss()
        found.backward()
    return [each.grad.clone() for each in model.parameters() if each.grad is not None]


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("implementation", ["headstock", "sdpa"])
def test_layers_are_recomputed_that_the_policy_chooses(implementation: str, inside: bool) -> None:
    model = under("llama", implementation).train()
    counts, before, plain = counting(model), everything(model), gradients(model)
    assert counts == [1, 1]
    found = gradients(model, overrides(checkpoint=EVERY_OTHER), inside)
    assert counts == [3, 2]
    assert all(torch.equal(one, other) for one, other in zip(plain, found, strict=True))
    gradients(model)
    assert counts == [4, 3]
    assert everything(model) == before


def test_a_mask_of_the_block_is_seen_again_where_its_policy_recomputes() -> None:
    model = under("mistral").train()
    mask = {"mask": {"join": "sliding_window(2)"}}
    wanted = gradients(model, overrides(**mask))
    found = gradients(model, overrides(**mask, checkpoint="full"))
    assert all(torch.equal(one, other) for one, other in zip(wanted, found, strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(gradients(model), found, strict=True))


def test_blocks_win_over_what_is_switched_and_applied_and_the_inner_one_over_the_outer() -> None:
    model = under("llama").train()
    checkpoint_layers(model)
    function = model.model.layers[0]._gradient_checkpointing_func
    with overriding(model, overrides(checkpoint="off")):
        assert flags(model) == [False, False]
        assert not hasattr(model.model.layers[0], "_gradient_checkpointing_func")
        with overriding(model, in_layers("layers.1", checkpoint="full")):
            assert flags(model) == [False, True]
    assert flags(model) == [True, True]
    assert model.model.layers[0]._gradient_checkpointing_func is function
    with apply(model, overrides(checkpoint="off")):
        with overriding(model, overrides(checkpoint=EVERY_OTHER)):
            assert flags(model) == [True, False]
        assert flags(model) == [False, False]


def test_what_is_written_in_a_block_holds_after_it() -> None:
    model = under("llama")
    layer: Any = model.model.layers[0]
    with overriding(model, overrides(checkpoint="full")):
        layer.gradient_checkpointing = "written"
        assert flags(model) == [True, True]
    assert vars(layer)["gradient_checkpointing"] == layer.gradient_checkpointing == "written"
    del layer.gradient_checkpointing
    assert layer.gradient_checkpointing is False
    with pytest.raises(AttributeError, match="gradient_checkpointing"):
        del layer.gradient_checkpointing
    with pytest.raises(AttributeError, match="'LlamaDecoderLayer' object has no attribute '_gradient_checkp"):
        _ = layer._gradient_checkpointing_func


def test_other_threads_run_the_model_without_the_policy_of_the_block() -> None:
    model = under("llama").train()
    policies: list[Any] = [EVERY_OTHER, "full", "off", None]
    wanted = [[True, False], [True, True], [False, False], [False, False]]
    start = threading.Barrier(len(policies))
    found: list[list[list[bool]]] = [[] for _ in policies]

    def run(place: int) -> None:
        start.wait()
        for _ in range(20):
            if policies[place] is None:
                found[place].append(flags(model))
                continue
            with overriding(model, overrides(checkpoint=policies[place])):
                found[place].append(flags(model))

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(policies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[each] * 20 for each in wanted]


def test_transformers_class_is_as_it_was_after_uninstall() -> None:
    read_scopes_no_more()
    before = dict(vars(GradientCheckpointingLayer))
    with overriding(under("llama"), overrides(checkpoint="full")):
        assert dict(vars(GradientCheckpointingLayer)) != before
    read_scopes()
    cls: Any = GradientCheckpointingLayer
    assert cls.gradient_checkpointing is False
    with pytest.raises(AttributeError, match="no attribute '_gradient_checkpointing_func'"):
        _ = cls._gradient_checkpointing_func
    uninstall()
    try:
        assert dict(vars(GradientCheckpointingLayer)) == before
        with pytest.raises(UnsupportedFeature, match="must be installed in transformers for a checkpoint policy"):
            overriding(under("llama", "sdpa"), overrides(checkpoint="full"))
    finally:
        install()


class Stubborn(GradientCheckpointingLayer):
    """A layer whose class answers by itself."""

    gradient_checkpointing = False

    def forward(self, hidden_states: Tensor) -> Tensor:
        """The same."""
        return hidden_states


def test_a_layer_whose_class_answers_by_itself_is_refused() -> None:
    read_scopes()
    with pytest.raises(
        UnsupportedFeature, match=r"must leave `gradient_checkpointing` to .* got 'a', whose class Stub"
    ):
        check_reads_scopes({"a": Stubborn()})


@pytest.mark.slow
def test_a_compiled_model_sees_the_policy_of_the_block() -> None:
    model = under("llama").train()
    wanted = gradients(model)
    compiled: Any = torch.compile(model, fullgraph=True, backend="aot_eager")
    for block in (overrides(checkpoint="full"), None, overrides(checkpoint=EVERY_OTHER)):
        model.zero_grad()
        if block is None:
            loss = compiled(TOKENS, attention_mask=KEEP, use_cache=False).logits.square().mean()
        else:
            with overriding(model, block):
                loss = compiled(TOKENS, attention_mask=KEEP, use_cache=False).logits.square().mean()
        loss.backward()
        for one, parameter in zip(wanted, model.parameters(), strict=True):
            # Two layers of width 32: some hundred roundings of the largest value.
            torch.testing.assert_close(parameter.grad, one, rtol=0, atol=512 * 1.2e-7 * one.abs().max().item())
