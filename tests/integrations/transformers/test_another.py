"""An implementation that is set while overrides hold is refused where they hold, and nowhere else."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from transformers import AttentionInterface

from headstock.errors import UnsupportedFeature
from headstock.integrations.transformers import install, installed, uninstall
from headstock.overrides import apply, overriding
from tests.support.overrides import overrides
from tests.support.transformers_overrides import headstock_installed, said, under

REFUSED = "an overridden LlamaAttention must run headstock's attention, got attn_implementation='{}', set since"


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    with headstock_installed():
        yield


@pytest.mark.parametrize("name", ["eager", "sdpa"])
@pytest.mark.parametrize("how", [apply, overriding])
def test_another_implementation_set_inside_is_refused(
    how: Callable[..., AbstractContextManager[object]], name: str
) -> None:
    model = under("llama")
    with how(model, overrides(mask={"join": "sliding_window(2)"})):
        model.set_attn_implementation(name)
        with pytest.raises(UnsupportedFeature, match=REFUSED.format(name)):
            said(model)
        model.set_attn_implementation("headstock")
        said(model)
    model.set_attn_implementation(name)
    assert torch.equal(said(model), said(under("llama", name)))


def test_a_model_that_the_block_leaves_alone_runs_what_it_names() -> None:
    model, other = under("llama"), under("mistral", "sdpa")
    expected = said(other)
    with overriding(model, overrides(attention="sdpa")):
        assert torch.equal(said(other), expected)


def test_a_thread_beside_the_block_runs_what_the_model_names() -> None:
    model, found = under("llama"), []
    with overriding(model, overrides(attention="sdpa")):
        model.set_attn_implementation("sdpa")
        thread = threading.Thread(target=lambda: found.append(said(model)))
        thread.start()
        thread.join()
    assert torch.equal(found[0], said(model))


@pytest.mark.slow
def test_compiled_code_refuses_it_too() -> None:
    model = under("llama")
    compiled: Any = torch.compile(model, fullgraph=True, backend="eager")
    with overriding(model, overrides(attention="sdpa")):
        said(compiled)
        model.set_attn_implementation("eager")
        with pytest.raises(Exception, match="an overridden LlamaAttention must run headstock's attention"):
            said(compiled)
    said(compiled)


def test_uninstall_gives_transformers_its_look_up_back() -> None:
    wrapped = AttentionInterface.get_interface
    uninstall()
    try:
        assert AttentionInterface.get_interface is not wrapped
        assert AttentionInterface.get_interface.__module__ == "transformers.modeling_utils"
        assert not hasattr(AttentionInterface.get_interface, "__wrapped__")
    finally:
        install()
    assert installed()
