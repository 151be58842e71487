"""Attention in one graph: every function, every mask, any length; changed entries and scopes are seen."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from headstock.attention import AttentionInterface, attend, call_attention
from headstock.masks import Geometry, Mask, causal, padding, prepare, sliding_window
from tests.support.attention_functions import additive, by_representation
from tests.support.devices import moved, on_each_device

QUERY, KEY, VALUE = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8)
KEEP = torch.tensor([[True, True, True, False, True], [False] * 5])
MASKS: dict[str, Any] = {
    "none": None,
    "causal": causal(),
    "padding": causal() & padding(KEEP),
    "window": sliding_window(2, right=1) | Mask(lambda b, h, i, j: (i + h) % 2 == 0),
    "prepared": prepare(causal() & padding(KEEP), Geometry(2, 5, 5, heads=4)),
    "boolean": torch.rand(2, 1, 5, 5) < 0.5,
    "float": torch.randn(5, 5),
}


def _interface() -> AttentionInterface:
    interface = AttentionInterface()
    interface.update(by_representation)
    return interface


def _compiled(function: Callable[..., Any], backend: Any = "eager", **options: Any) -> Callable[..., Any]:
    return torch.compile(function, fullgraph=True, backend=backend, **options)


@on_each_device
@pytest.mark.parametrize(
    ("name", "mask"),
    [(name, mask) for name in ("eager", "sdpa", "additive") for mask in MASKS]
    + [("auto", "causal"), ("dense", "padding"), ("dense", "causal"), ("causal_or_dense", "causal")],
)
def test_each_function_under_each_mask(name: str, mask: str, device: str) -> None:
    interface, given = _interface(), moved(MASKS[mask], device)

    def forward(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return attend(query, key, value, mask=given, implementation=name, interface=interface)

    leaves = [moved(tensor.clone(), device).requires_grad_() for tensor in (QUERY, KEY, VALUE)]
    expected, found = forward(*leaves), _compiled(forward)(*leaves)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(output.square().sum(), leaves) for output in (expected, found)]
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("name", ["auto", "eager"])
def test_features_and_everything_asked_for(name: str) -> None:
    sinks, bias = torch.randn(4), torch.randn(5, 5)

    def forward(query: Tensor) -> Any:
        return attend(
            query,
            KEY,
            VALUE,
            mask=causal() & padding(KEEP),
            implementation=name,
            softcap=3.0,
            sinks=sinks,
            bias=bias,
            return_lse=True,
            return_weights=True,
        )

    torch.testing.assert_close(_compiled(forward)(QUERY), forward(QUERY))


class _Layer(nn.Module):
    num_key_value_groups = 2

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.interface = _interface()
        self.linear = nn.Linear(8, 8)

    def forward(self, query: Tensor, mask: Any = None, **keywords: Any) -> Tensor:
        output, _ = call_attention(
            self.interface, self.name, self, self.linear(query), KEY, VALUE, mask, scaling=0.3, **keywords
        )
        return output


@pytest.mark.parametrize("name", ["auto", "eager", "additive"])
@pytest.mark.parametrize("keywords", [{"is_causal": True}, {"sliding_window": 2, "use_cache": True, "s_aux": None}])
def test_a_layer(name: str, keywords: dict[str, Any]) -> None:
    layer = _Layer(name)
    torch.testing.assert_close(_compiled(layer)(QUERY, **keywords), layer(QUERY, **keywords))


# torch 2.13 scripts functions of its own when the backend is first used.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_backends_that_trace_the_backward_pass_too(backend: str) -> None:
    for name in ("eager", "sdpa"):
        layer = _Layer(name)
        outputs = [forward(QUERY, MASKS["prepared"]) for forward in (layer, _compiled(layer, backend))]
        torch.testing.assert_close(outputs[1], outputs[0])
        gradients = [torch.autograd.grad(output.square().sum(), layer.linear.weight)[0] for output in outputs]
        torch.testing.assert_close(gradients[1], gradients[0])


def test_the_forms_of_the_table_called_as_they_are() -> None:
    interface = AttentionInterface()
    for name in ("eager", "sdpa"):

        def forward(query: Tensor, name: str = name) -> Tensor:
            return interface[name](None, query, KEY, VALUE, None, is_causal=True, scaling=0.2)[0]

        torch.testing.assert_close(_compiled(forward)(QUERY), forward(QUERY))


@pytest.mark.parametrize("cast", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["sdpa", "eager"])
def test_autocast_gives_the_dtype_of_eager_mode(name: str, cast: torch.dtype) -> None:
    def forward(query: Tensor) -> Tensor:
        with torch.autocast("cpu", cast):
            return attend(query, KEY, VALUE, mask=MASKS["padding"], implementation=name)

    for backend in ("eager", "aot_eager"):
        found = _compiled(forward, backend)(QUERY)
        assert found.dtype == forward(QUERY).dtype == cast
        torch.testing.assert_close(found, forward(QUERY))


def _doubled(*args: Any, **keywords: Any) -> Any:
    output, weights = additive(*args, **keywords)
    return output * 2, weights


def test_a_changed_entry_is_seen() -> None:
    layer = _Layer("sdpa")
    compiled = _compiled(layer)
    plain = compiled(QUERY)
    layer.interface["sdpa"] = _doubled
    torch.testing.assert_close(compiled(QUERY), 2 * plain)
    del layer.interface["sdpa"]
    torch.testing.assert_close(compiled(QUERY), plain)
    AttentionInterface.register("temporary", _doubled)
    try:
        layer.name = "temporary"
        torch.testing.assert_close(compiled(QUERY), 2 * plain)
    finally:
        AttentionInterface.unregister("temporary")


def test_scopes_are_honoured_in_threads_and_tasks() -> None:
    layer = _Layer("sdpa")
    compiled = _compiled(layer)
    plain = layer(QUERY)
    found: dict[str, Tensor] = {}

    def work(name: str, scoped: bool) -> None:
        if scoped:
            with layer.interface.override(sdpa=_doubled):
                found[name] = compiled(QUERY)
        else:
            found[name] = compiled(QUERY)

    async def task(name: str, scoped: bool) -> None:
        work(name, scoped)
        await asyncio.sleep(0)
        work(name, scoped)

    async def tasks() -> None:
        await asyncio.gather(task("task in", True), task("task out", False))

    with layer.interface.override(sdpa=_doubled):
        threads = [threading.Thread(target=work, args=(f"thread {scoped}", scoped)) for scoped in (True, False)]
        for thread in threads:
            thread.start()
            thread.join()
        found["inside"] = compiled(QUERY)
    asyncio.run(tasks())
    found["after"] = compiled(QUERY)
    for name, output in found.items():
        times = 2 if name in ("task in", "thread True", "inside") else 1
        torch.testing.assert_close(output, times * plain, msg=name)


def test_importing_brings_no_compiler() -> None:
    program = "import sys, headstock.attention; sys.exit(any(n.startswith('torch._dynamo') for n in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("name", ["auto", "blocked", "eager", "sdpa"])
def test_attending_and_learning_bring_no_compiler(name: str) -> None:
    program = f"""
import sys, torch
from headstock.attention import attend
from headstock.masks import causal, sliding_window

query, key, value = torch.randn(3, 1, 2, 600, 8).requires_grad_().unbind()
for mask in (None, causal(), causal() & sliding_window(9), torch.rand(600, 600) > 0.5):
    attend(query, key, value, mask=mask, implementation={name!r}).sum().backward(retain_graph=True)
sys.exit(any(each.startswith(("torch._dynamo", "sympy")) for each in sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
