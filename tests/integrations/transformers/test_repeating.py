"""What was chosen for one layer of a forward runs in those that ask for the same, and in no other."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from headstock.attention import ALL_ATTENTION_FUNCTIONS, eager_attention
from headstock.attention.kernel_call import KernelCall
from headstock.attention.layer import layer_call
from headstock.attention.run import run
from headstock.integrations.transformers import attending
from headstock.integrations.transformers.repeating import LayerCall, LayerCalls, key_of
from headstock.masks import Geometry, causal, padding, prepare
from tests.support.tiny_transformers import tiny
from tests.support.transformers_attention import batch, with_headstock

NUMBERS: dict[str, Any] = {"scaling": 0.5, "dropout": 0.0}
SIZES = ((2, 4, 3, 8), (2, 2, 6, 8), (2, 2, 6, 8))
KEEP = torch.tensor([[1] * 6, [0] * 3 + [1] * 3]).bool()


@pytest.fixture(autouse=True, scope="module")
def _installed() -> Iterator[None]:
    with with_headstock():
        yield


def operands(**options: Any) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = (torch.randn(size, **options) for size in SIZES)
    return query, key, value


def key(implementation: str = "eager", tensors: Any = None, numbers: Any = None, **keywords: Any) -> Any:
    return key_of(implementation, tensors or operands(), numbers or NUMBERS, keywords)


@pytest.fixture
def choices(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what was chosen, once for each time that it was."""
    found: list[str] = []

    def noting(*arguments: Any, **keywords: Any) -> Any:
        chosen, call = layer_call(*arguments, **keywords)
        found.append(chosen.name)
        return chosen, call

    monkeypatch.setattr(attending, "layer_call", noting)
    return found


def logits(model: Any, ids: Tensor, keep: Tensor, **said: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(ids, attention_mask=keep, **said).logits
    return found


@pytest.mark.parametrize(
    ("kind", "kinds"),
    [("llama", 1), ("mistral", 1), ("gemma2", 2)],  # of masks: each has layers of its own
)
@pytest.mark.parametrize("implementation", ["headstock", "headstock:eager", "headstock:blocked"])
def test_a_forward_chooses_once_for_each_of_its_masks(
    kind: str, kinds: int, implementation: str, choices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(kind, implementation)
    ids, keep = batch()
    found = logits(model, ids, keep)
    assert len(choices) == kinds
    monkeypatch.setattr(attending, "key_of", lambda *_: None)
    assert torch.equal(found, logits(model, ids, keep))
    assert len(choices) == kinds + model.config.num_hidden_layers


def test_each_forward_chooses_anew(choices: list[str]) -> None:
    model = tiny("llama", "headstock")
    for padded in (0, 5):
        logits(model, *batch(padded=padded))
    assert len(choices) == 2


@pytest.mark.parametrize("padded", [0, 5, 13])
def test_rows_that_see_nothing_are_zero_in_every_layer(padded: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama", "headstock:torch")
    ids, keep = batch(padded=padded)
    found = logits(model, ids, keep)
    monkeypatch.setattr(attending, "key_of", lambda *_: None)
    assert torch.equal(found, logits(model, ids, keep))


def test_what_differs_in_anything_that_decides_has_another_key() -> None:
    query, keys, value = operands()
    double = operands(dtype=torch.float64)
    kinds = [
        key(),
        key("blocked"),
        key(tensors=(query[:1], keys[:1], value[:1])),
        key(tensors=(query[:, :, :1], keys, value)),
        key(tensors=(query, keys[:, :, :5], value[:, :, :5])),
        key(tensors=(query, keys, value[..., :4])),
        key(tensors=double),
        key(tensors=(query, keys, double[2])),
        key(tensors=tuple(each.to("meta") for each in operands())),
        key(numbers={**NUMBERS, "scaling": 0.25}),
        key(numbers={**NUMBERS, "scaling": None}),
        key(numbers={**NUMBERS, "dropout": 0.5}),
        key(softcap=30.0),
        key(softcap=50.0),
        key(output_attentions=True),
    ]
    assert None not in kinds
    assert len(set(kinds)) == len(kinds)
    assert key() == key(softcap=None, position_ids=torch.arange(3), use_cache=True, sliding_window=4)


AROUND: dict[str, Callable[[], Any]] = {
    "sinks": lambda: key(s_aux=torch.zeros(4)),
    "packed sequences": lambda: key(cu_seq_lens_q=torch.tensor([0, 3])),
    "a cache of another kind": lambda: key(cache=object()),
    "gradients": lambda: key(tensors=operands(requires_grad=True)),
}


@pytest.mark.parametrize("around", AROUND)
def test_where_more_decides_there_is_no_key(around: str) -> None:
    assert AROUND[around]() is None


def test_there_is_no_key_inside_of_a_transformation() -> None:
    found, tensors = [], operands()

    def inside(tensor: Tensor) -> Tensor:
        found.append(key(tensors=tensors))
        return tensor

    torch.func.vmap(inside)(torch.ones(2))
    assert found == [None]


def test_there_is_no_key_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert key() is None
    with torch.no_grad():
        assert key(tensors=operands(requires_grad=True)) is not None


def kept_calls(name: str = "eager", mask: Any = None, **options: Any) -> LayerCalls:
    calls, (query, keys, value) = LayerCalls(), operands()
    asked = {**NUMBERS, **options}
    chosen, call = layer_call(ALL_ATTENTION_FUNCTIONS, name, query, keys, value, mask, **asked)
    calls.keep(ALL_ATTENTION_FUNCTIONS, "a", chosen, call)
    return calls


def test_what_sdpa_does_beside_torchs_kernel_is_left_to_it() -> None:
    floats = prepare(torch.randn(1, 1, 3, 6), Geometry(2, 3, 6, 3, heads=4))
    hidden = prepare(padding(KEEP & torch.tensor([[True], [False]])), Geometry(2, 3, 6, 3, heads=4))
    for asked in ({"scaling": -0.5}, {"mask": floats}, {"mask": hidden}, {"bias": torch.zeros(3, 6)}):
        assert isinstance(kept_calls("sdpa", **asked).of(ALL_ATTENTION_FUNCTIONS, "a"), LayerCall)
    assert isinstance(kept_calls("eager").of(ALL_ATTENTION_FUNCTIONS, "a"), LayerCall)
    assert isinstance(kept_calls("sdpa", causal()).of(ALL_ATTENTION_FUNCTIONS, "a"), KernelCall)


def test_a_change_of_the_table_and_a_scope_over_it_forget_what_was_kept() -> None:
    table = ALL_ATTENTION_FUNCTIONS
    calls = kept_calls()
    assert calls.of(table, "a") is not None
    assert calls.of(table, "b") is None
    with table.override(eager=table["blocked"]):
        assert calls.of(table, "a") is None
    assert calls.of(table, "a") is not None
    table["of_a_test"] = table["eager"]
    try:
        assert calls.of(table, "a") is None
    finally:
        del table["of_a_test"]


def test_functions_of_others_and_weights_are_asked_for_in_every_layer() -> None:
    def stranger(
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, scaling: float, dropout: float
    ) -> Any:
        return eager_attention(query, key, value, None, scaling=scaling).output.transpose(1, 2), None

    with ALL_ATTENTION_FUNCTIONS.override(stranger=stranger):
        assert kept_calls("stranger").of(ALL_ATTENTION_FUNCTIONS, "a") is None
    assert kept_calls(return_weights=True).of(ALL_ATTENTION_FUNCTIONS, "a") is None


@pytest.mark.parametrize("name", ["sdpa", "eager", "blocked"])
def test_a_kept_call_computes_with_the_tensors_of_its_own_layer(name: str) -> None:
    hidden = KEEP & torch.tensor([[True], [False]])  # the second row sees nothing at all
    mask = prepare(causal() & padding(hidden), Geometry(2, 3, 6, 3, heads=4))
    again = kept_calls(name, mask).of(ALL_ATTENTION_FUNCTIONS, "a")
    assert again is not None
    query, keys, value = operands()
    chosen, call = layer_call(ALL_ATTENTION_FUNCTIONS, name, query, keys, value, mask, **NUMBERS)
    wanted = run(chosen, None, call).output
    assert torch.equal(again(query, keys, value), wanted)
    assert not wanted[1].any()
    assert wanted[0].any()
