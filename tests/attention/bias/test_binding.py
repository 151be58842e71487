"""A bias that is no tensor on its way to a function: the same numbers and gradients as the tensor that it says."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from headstock.attention import (
    BIAS_FORMS,
    FEATURES,
    AttentionInterface,
    AttentionOutput,
    BoundBias,
    FunctionBias,
    ScoreBias,
    alibi,
    alibi_slopes,
    attend,
    call_attention,
    eager_attention,
    explain,
    relative_buckets,
    relative_table,
)
from headstock.attention.adapter import table_form
from headstock.attention.bias.binding import bias_of, bound_bias, dense_bias, with_heads
from headstock.errors import InvalidComponent, InvalidShape, UnsupportedFeature, WrongResult
from headstock.masks import Geometry, causal, prepare, sliding_window
from headstock.registry import declare
from tests.support.attention_functions import additive
from tests.support.biases import bias_loop, forms

HEADS = 4
QUERY, KEY, VALUE = torch.randn(2, HEADS, 5, 8), torch.randn(2, 2, 7, 8), torch.randn(2, 2, 7, 3)
FORMS: dict[str, Any] = {
    "alibi": alibi(alibi_slopes(HEADS)),
    "table": relative_table(torch.randn(1, 5)),
    "buckets": relative_buckets(torch.randn(8, HEADS), max_distance=6),
    "function": FunctionBias(lambda b, h, i, j: (j - i) * 0.25 ** (h + b)),
}


def with_position_bias(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, *, position_bias: Any = None, scaling: float
) -> tuple[Tensor, Tensor]:
    """A function as a model brings it, which indexes its bias."""
    bias = position_bias[:, :, :, torch.arange(key.shape[2])]
    assert bias.shape == (query.shape[0], query.shape[1], query.shape[2], key.shape[2])
    assert bias.dtype == query.dtype
    return additive(module, query, key, value, bias if mask is None else bias + mask, scaling=scaling)


INTERFACE = AttentionInterface()
INTERFACE["mine"] = with_position_bias


@st.composite
def calls(draw: st.DrawFn) -> tuple[tuple[Tensor, Tensor, Tensor], int | Tensor | None]:
    """Query, key and value in float64, and the offset of the queries."""
    batch, groups, kv_heads = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    queries, keys = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    numbers = st.integers(0, 5)
    offsets = [st.none(), numbers, numbers.map(torch.tensor)]
    offsets.append(st.lists(numbers, min_size=batch, max_size=batch).map(torch.tensor))
    query = torch.randn(batch, groups * kv_heads, queries, 4, dtype=torch.float64)
    key, value = torch.randn(2, batch, kv_heads, keys, 4, dtype=torch.float64)
    return (query, key, value), draw(st.one_of(offsets))


@pytest.mark.parametrize("name", ["eager", "sdpa", "mine"])
@given(data=st.data())
def test_equals_the_formula_as_a_tensor(name: str, data: st.DataObject) -> None:
    tensors, offset = data.draw(calls())
    (batch, heads, queries, _), keys = tensors[0].shape, tensors[1].shape[2]
    make, parameter, meaning = data.draw(forms(heads))
    mask = data.draw(st.sampled_from([None, causal(), sliding_window(2, right=1)]))
    first = max(0, keys - queries) if offset is None else offset
    geometry = Geometry(batch, queries, keys, first, heads=heads)
    gradients, outputs = [], []
    leaves = [*(tensor.requires_grad_() for tensor in tensors), parameter.double().requires_grad_()]
    upstream = torch.randn(batch, heads, queries, 4, dtype=torch.float64)
    for bias in (make(leaves[3]), bias_loop(meaning, leaves[3], geometry)):
        options: dict[str, Any] = {"mask": mask, "implementation": name, "interface": INTERFACE}
        outputs.append(attend(*tensors, bias=bias, q_offset=offset, **options))
        gradients.append(torch.autograd.grad(outputs[-1], leaves, upstream))
    torch.testing.assert_close(*outputs)
    # A row that sees nothing has no gradient: all may be zero, but they are there.
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("form", FORMS)
def test_without_an_offset_the_last_query_meets_the_last_key(form: str) -> None:
    whole = attend(KEY.repeat(1, 2, 1, 1), KEY, VALUE, bias=FORMS[form])
    part = attend(KEY.repeat(1, 2, 1, 1)[:, :, 3:], KEY, VALUE, bias=FORMS[form])
    torch.testing.assert_close(part, whole[:, :, 3:])
    # More queries than keys: the first meets the first.
    bias = FORMS[form].dense(Geometry(2, 5, 2, heads=HEADS), dtype=torch.float32, device=None)
    found, expected = (attend(QUERY, KEY[:, :, :2], VALUE[:, :, :2], bias=each) for each in (FORMS[form], bias))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("heads", [1, HEADS])
def test_a_prepared_mask_says_where_the_queries_are(form: str, heads: int) -> None:
    geometry = Geometry(2, 5, 7, q_offset=torch.tensor([1, 4]), kv_offset=2, heads=heads)
    mask = prepare(causal(), geometry)
    tensor = FORMS[form].dense(with_heads(geometry, HEADS), dtype=torch.float32, device=None)
    found, expected = (attend(QUERY, KEY, VALUE, mask=mask, bias=bias) for bias in (FORMS[form], tensor))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("form", FORMS)
def test_behind_softcap_and_before_sinks_as_a_tensor_is(form: str) -> None:
    geometry = Geometry(2, 5, 7, q_offset=2, heads=HEADS)
    tensor = FORMS[form].dense(geometry, dtype=torch.float32, device=None)
    found, expected = (
        attend(QUERY, KEY, VALUE, mask=causal(), bias=bias, softcap=2.0, sinks=torch.arange(4.0), return_lse=True)
        for bias in (FORMS[form], tensor)
    )
    torch.testing.assert_close(found.output, expected.output)
    torch.testing.assert_close(found.log_sum_exp, expected.log_sum_exp)


@pytest.mark.parametrize("keyword", ["bias", "position_bias"])
@pytest.mark.parametrize("name", ["eager", "sdpa", "mine"])
def test_a_layer_passes_a_form_under_either_name(name: str, keyword: str) -> None:
    for form in FORMS.values():
        tensor = form.dense(Geometry(2, 5, 7, q_offset=2, heads=HEADS), dtype=torch.float32, device=None).expand(
            2, HEADS, -1, -1
        )
        found, expected = (
            call_attention(INTERFACE, name, None, QUERY, KEY, VALUE, None, is_causal=True, **{keyword: bias})[0]
            for bias in (form, tensor)
        )
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_an_entry_of_the_table_takes_a_form_as_it_takes_a_tensor(name: str) -> None:
    for form in FORMS.values():
        tensor = form.dense(Geometry(2, 5, 7, q_offset=2, heads=HEADS), dtype=torch.float32, device=None).expand(
            2, HEADS, -1, -1
        )
        found, expected = (INTERFACE[name](None, QUERY, KEY, VALUE, causal(), bias=bias)[0] for bias in (form, tensor))
        torch.testing.assert_close(found, expected)


def test_who_declares_forms_gets_the_form_and_its_extent() -> None:
    given: list[Any] = []

    def takes_forms(
        module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, *, bias: Any = None, scaling: float
    ) -> Any:
        given.append(bias)
        # Handed on, it keeps its extent.
        return INTERFACE["eager"](module, query, key, value, mask, bias=bias, scaling=scaling)

    interface = AttentionInterface()
    interface["forms"] = declare(takes_forms, mask="dense", features={"bias", BIAS_FORMS})
    offset = torch.tensor([3, 1])
    options: dict[str, Any] = {"mask": causal(), "q_offset": offset}
    for form in FORMS.values():
        found = attend(QUERY, KEY, VALUE, bias=form, implementation="forms", interface=interface, **options)
        assert given[-1] == BoundBias(form, Geometry(2, 5, 7, q_offset=offset, heads=HEADS))
        torch.testing.assert_close(found, attend(QUERY, KEY, VALUE, bias=form, **options))
    tensor = torch.randn(5, 7)
    attend(QUERY, KEY, VALUE, bias=tensor, implementation="forms", interface=interface)
    assert given[-1] is tensor


def test_a_core_that_declares_forms_gets_the_form() -> None:
    given: list[Any] = []

    def core(
        query: Tensor, key: Tensor, value: Tensor, mask: Any, /, *, bias: Any = None, **options: Any
    ) -> AttentionOutput:
        given.append(bias)
        return eager_attention(query, key, value, mask, bias=bias.dense(torch.float32, None), **options)

    interface = AttentionInterface()
    interface["core"] = table_form("core", core, mask="dense", features=(*FEATURES, BIAS_FORMS))
    found = attend(QUERY, KEY, VALUE, bias=FORMS["alibi"], implementation="core", interface=interface)
    assert given == [BoundBias(FORMS["alibi"], Geometry(2, 5, 7, q_offset=2, heads=HEADS))]
    torch.testing.assert_close(found, attend(QUERY, KEY, VALUE, bias=FORMS["alibi"]))


def test_forms_are_declared_beside_tensors() -> None:
    interface = AttentionInterface()
    text = "'mine' must declare 'bias' where it declares 'bias_forms', got .*; a bias may be a tensor too"
    with pytest.raises(InvalidComponent, match=text):
        interface["mine"] = declare(lambda m, q, k, v, mask, **rest: (q, None), features={BIAS_FORMS})


def test_a_function_without_biases_refuses_forms() -> None:
    interface = AttentionInterface()
    interface["mine"] = additive
    with pytest.raises(UnsupportedFeature, match="'mine', which does not honour bias"):
        attend(QUERY, KEY, VALUE, bias=FORMS["alibi"], implementation="mine", interface=interface)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["eager", "sdpa", "mine"])
def test_checked_against_the_definition(form: str, dtype: torch.dtype, name: str) -> None:
    tensors = [tensor.to(dtype) for tensor in (QUERY, KEY, VALUE)]
    options: dict[str, Any] = {"implementation": name, "interface": INTERFACE, "checked": True}
    output = attend(*tensors, bias=FORMS[form], mask=causal(), **options)
    assert output.dtype == dtype


def test_a_function_that_drops_its_bias_is_found_out() -> None:
    def drops(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any, *, bias: Any = None, scaling: float) -> Any:
        return additive(module, q, k, v, mask, scaling=scaling)

    interface = AttentionInterface()
    interface["drops"] = drops
    with pytest.raises(WrongResult, match="'drops' must equal the definition"):
        attend(QUERY, KEY, VALUE, bias=FORMS["alibi"], implementation="drops", interface=interface, checked=True)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_under_autocast(form: str, name: str) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = attend(QUERY, KEY, VALUE, bias=FORMS[form], implementation=name)
    rounded = [tensor.bfloat16() for tensor in (QUERY, KEY, VALUE)]
    assert torch.equal(found, attend(*rounded, bias=FORMS[form], implementation=name))


def test_no_keys_and_no_queries() -> None:
    for form in FORMS.values():
        for queries, keys in ((0, 7), (5, 0), (0, 0)):
            output = attend(QUERY[:, :, :queries], KEY[:, :, :keys], VALUE[:, :, :keys], bias=form, mask=causal())
            assert torch.equal(output, torch.zeros(2, HEADS, queries, 3))


def test_explained_as_a_tensor_would_be() -> None:
    assert (
        explain(QUERY, KEY, VALUE, bias=FORMS["alibi"]).chosen == explain(QUERY, KEY, VALUE, bias=QUERY[..., :1]).chosen
    )
    assert explain(QUERY, KEY, VALUE, bias=lambda b, h, i, j: j, softcap=2.0).chosen == "eager"
    with pytest.raises(InvalidShape, match="the heads of a bias must be 1 or those of the query, 4, got 3"):
        explain(QUERY, KEY, VALUE, bias=alibi(alibi_slopes(3)))


def test_a_bound_form_belongs_to_one_extent() -> None:
    bound = BoundBias(FORMS["alibi"], Geometry(2, 5, 6, heads=HEADS))
    text = r"bound bias must have the extent .* \[2, 4, 5, 7\], got \[2, 4, 5, 6\]; pass the form that it binds, al"
    for run in (attend, explain):
        with pytest.raises(InvalidShape, match=text):
            run(QUERY, KEY, VALUE, bias=bound)
    with pytest.raises(InvalidShape, match="the heads of a bias must be 1 or those of the query, 4, got 3"):
        attend(QUERY, KEY, VALUE, bias=BoundBias(alibi(alibi_slopes(3)), Geometry(2, 5, 7, heads=HEADS)))
    with pytest.raises(InvalidShape, match="bias must be a tensor, got float"):
        attend(QUERY, KEY, VALUE, bias=1.0)  # type: ignore[call-overload]


def test_what_is_no_plain_function_is_left_as_it_is() -> None:
    tensor, bound = torch.randn(5, 7), BoundBias(FORMS["alibi"], Geometry(2, 5, 7))
    for bias in (None, tensor, bound, FORMS["alibi"], 3.0):
        assert bias_of(bias) is bias
    assert bias_of(max) == FunctionBias(max)
    assert bound_bias(bound, bound.geometry) is bound
    assert dense_bias(tensor, torch.float64, tensor.device) is tensor


class _Model(torch.nn.Module):
    """A learned bias, made in the forward."""

    def __init__(self, form: str) -> None:
        super().__init__()
        parameters = {"alibi": (HEADS,), "table": (HEADS, 5), "buckets": (8, HEADS)}
        self.form, self.parameter = form, torch.nn.Parameter(torch.randn(parameters[form]))

    def bias(self) -> ScoreBias:
        if self.form == "alibi":
            return alibi(self.parameter, symmetric=True)
        return relative_table(self.parameter) if self.form == "table" else relative_buckets(self.parameter)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, offset: Any, name: str) -> Tensor:
        return attend(query, key, value, bias=self.bias(), mask=causal(), q_offset=offset, implementation=name)


OFFSETS = {"aligned": None, "int": 3, "rows": torch.tensor([3, 0])}


def _agree(model: _Model, compiled: Any, length: int, offset: str, name: str) -> None:
    arguments = (QUERY, *torch.randn(2, 2, 2, length, 8), OFFSETS[offset], name)
    expected, found = model(*arguments), compiled(*arguments)
    torch.testing.assert_close(found, expected)
    upstream = torch.randn_like(expected)
    gradients = [torch.autograd.grad(output, model.parameter, upstream) for output in (found, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("form", "name", "offset"),
    [
        ("alibi", "eager", "aligned"),
        ("table", "sdpa", "aligned"),
        ("buckets", "sdpa", "rows"),
        ("alibi", "eager", "int"),
    ],
)
def test_compiled_in_one_graph(form: str, name: str, offset: str) -> None:
    model = _Model(form)
    _agree(model, torch.compile(model, fullgraph=True, backend="eager"), 7, offset, name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "name", "offset", "dynamic"),
    [
        ("alibi", "eager", "aligned", True),
        ("table", "sdpa", "rows", True),
        ("buckets", "sdpa", "aligned", None),
        ("table", "eager", "int", None),
    ],
)
def test_compiled_for_any_length(form: str, name: str, offset: str, dynamic: bool | None) -> None:
    model = _Model(form)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for length in (5, 7, 6):
        _agree(model, compiled, length, offset, name)


def test_a_form_made_outside_of_the_graph_gets_its_gradient() -> None:
    slopes = alibi_slopes(HEADS).requires_grad_()
    form = alibi(slopes)

    def forward(query: Tensor, bias: Any) -> Tensor:
        return attend(query, KEY, VALUE, bias=bias)

    compiled = torch.compile(forward, fullgraph=True, backend="eager")
    found, expected = (torch.autograd.grad(each(QUERY, form).square().sum(), slopes) for each in (compiled, forward))
    torch.testing.assert_close(found, expected)
