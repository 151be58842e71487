"""The operator as torch sees it: its schema, fake and backward, and which transformations it refuses."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import grad, jacfwd, jvp, vjp, vmap

from headstock import attend
from headstock.attention.blocked.operator import attention, attention_backward
from headstock.attention.blocked.passes import Inputs
from headstock.errors import UnsupportedFeature
from headstock.masks import Geometry, Mask, causal, documents, prepare, sliding_window

# torch 2.13 scripts its own formulas of forward mode when they are first used.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
QUERY = torch.randn(2, 4, 7, 8)
KEY, VALUE = torch.randn(2, 2, 9, 8), torch.randn(2, 2, 9, 3)
BAND = causal() & sliding_window(3)
MASKS = {
    "band": BAND,
    "documents": documents(torch.randint(0, 3, (2, 9)).sort(-1).values),
    "by head": Mask(lambda b, h, i, j: (i + h) % 3 != j % 3),
    "nothing": causal() & ~causal(),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "softcap and sinks": {"sinks": torch.randn(4), "softcap": 2.0},
    "bias": {"bias": torch.randn(1, 4, 7, 9)},
    "one bias for all": {"bias": torch.randn(1, 1, 1, 9)},
    "distances": {"distances": torch.randn(4, 15), "first_distance": torch.tensor([-6])},
    "distances by row": {"distances": torch.randn(1, 20), "first_distance": torch.tensor([-6, -9])},
    "dropout": {"dropout": 0.3, "seed": torch.tensor(5)},
    "half precision": {name: each.bfloat16() for name, each in (("query", QUERY), ("key", KEY), ("value", VALUE))},
    "heads behind length": {"query": torch.randn(2, 7, 4, 8).transpose(1, 2), "value": VALUE.mT.contiguous().mT},
}


def _inputs(mask: Mask = BAND, **options: Any) -> Inputs:
    plan = prepare(mask, Geometry(2, 7, 9, q_offset=2, heads=4)).tiled_plan()
    given = {
        "query": QUERY,
        "key": KEY,
        "value": VALUE,
        **plan._asdict(),
        "scaling": 0.4,
        "dropout": 0.0,
        "softcap": 0.0,
    }
    return Inputs(**{**dict.fromkeys(Inputs._fields), **given, **options})


def _learned(inputs: Inputs) -> Inputs:
    floating: dict[str, Any] = {
        name: each.detach().requires_grad_()
        for name, each in inputs._asdict().items()
        if isinstance(each, Tensor) and each.is_floating_point()
    }
    return inputs._replace(**floating)


@pytest.mark.parametrize("mask", MASKS)
def test_torchs_own_checks_of_an_operator_under_each_mask(mask: str) -> None:
    torch.library.opcheck(attention, _learned(_inputs(MASKS[mask])))


@pytest.mark.parametrize("options", OPTIONS)
def test_torchs_own_checks_of_an_operator_with_each_option(options: str) -> None:
    torch.library.opcheck(attention, _learned(_inputs(**OPTIONS[options])))


@pytest.mark.parametrize("of_log_sum_exp", [False, True])
@pytest.mark.parametrize("options", OPTIONS)
def test_torchs_own_checks_of_the_backward_operator(options: str, of_log_sum_exp: bool) -> None:
    inputs = _inputs(**OPTIONS[options])
    output, log_sum_exp = attention(*inputs)
    wanted = [each is not None for each in (inputs.sinks, inputs.bias, inputs.distances)]
    of_both = torch.randn_like(output), torch.randn_like(log_sum_exp) if of_log_sum_exp else None
    torch.library.opcheck(
        attention_backward,
        (output, log_sum_exp, *of_both, wanted, *inputs),
        # It has no second derivative.
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


LEARNED = ["query", "key", "value", "sinks", "bias"]


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("of", ["output", "log_sum_exp"])
def test_a_gradient_of_one_thing_alone_by_one_result_alone(name: str, of: str) -> None:
    tensors = {"query": QUERY, "key": KEY, "value": VALUE, "sinks": torch.randn(4), "bias": torch.randn(7, 9)}
    found = []
    for implementation in ("eager", "blocked"):
        given: dict[str, Any] = {**tensors, name: tensors[name].clone().requires_grad_()}
        result = attend(mask=BAND, implementation=implementation, return_lse=True, **given)
        total = getattr(result, of).square().sum()
        if name == "value" and of == "log_sum_exp":
            assert implementation == "blocked" or not total.requires_grad
            found.append(torch.autograd.grad(total, given[name], allow_unused=True)[0] if total.requires_grad else None)
            continue
        found.append(torch.autograd.grad(total, given[name])[0])
    if found[0] is None:
        assert found[1] is None or not found[1].any()
        return
    torch.testing.assert_close(found[1], found[0])


def test_no_gradient_is_asked_for_where_none_is_wanted() -> None:
    assert not attend(QUERY, KEY, VALUE, mask=BAND, implementation="blocked").requires_grad
    with torch.no_grad():
        assert not attend(QUERY.clone().requires_grad_(), KEY, VALUE, mask=BAND, implementation="blocked").requires_grad


def _call(**options: Any) -> Callable[[Tensor], Tensor]:
    return lambda query: attend(query, KEY, VALUE, mask=BAND, implementation="blocked", **options)


def _by_index(b: Any, h: Any, i: Any, j: Any) -> Any:
    return (j - i) / 10


FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dropout": {"dropout": 0.5},
    "function": {"bias": _by_index},
    "function and sinks": {"bias": _by_index, "sinks": torch.randn(4, requires_grad=True)},
}


@pytest.mark.parametrize("options", FORMS)
def test_second_derivatives_are_refused(options: str) -> None:
    query = QUERY.clone().requires_grad_()
    (first,) = torch.autograd.grad(_call(**FORMS[options])(query).square().sum(), query, create_graph=True)
    with pytest.raises(
        UnsupportedFeature,
        match=r"must be differentiated once, got a second derivative; use the implementation 'eager'",
    ):
        torch.autograd.grad(first.sum(), query)


@pytest.mark.parametrize("options", FORMS)
@pytest.mark.parametrize(
    "transformed",
    [
        lambda function: grad(lambda query: function(query).sum())(QUERY),
        lambda function: vjp(function, QUERY),
        lambda function: jvp(function, (QUERY,), (QUERY,)),
        lambda function: jacfwd(function)(QUERY),
        lambda function: vmap(function, randomness="different")(QUERY[None]),
    ],
    ids=["grad", "vjp", "jvp", "jacfwd", "vmap"],
)
def test_transformations_are_refused(transformed: Callable[[Any], Any], options: str) -> None:
    with pytest.raises(
        UnsupportedFeature,
        match=r"must be called outside of torch\.func's transformations .* use the implementation 'eager'",
    ):
        transformed(_call(**FORMS[options]))


def test_forward_mode_is_refused() -> None:
    with forward_ad.dual_level(), pytest.raises(UnsupportedFeature, match="forward-mode differentiation"):
        _call()(forward_ad.make_dual(QUERY, QUERY))


def test_a_full_mask_is_sdpas_and_transformed_as_that_is() -> None:
    query, key, value = torch.randn(3, 2, 2, 5, 4)

    def loss(query: Tensor, implementation: str) -> Tensor:
        return attend(query, key, value, mask=causal(), implementation=implementation).square().sum()

    torch.testing.assert_close(grad(loss)(query, "blocked"), grad(loss)(query, "eager"))
