"""What a function of the table is called with, and what it must return."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from headstock.attention import AttentionInterface, attend, call_attention
from headstock.errors import InvalidShape, UnsupportedFeature
from headstock.masks import ALL_MASK_ATTENTION_FUNCTIONS, Geometry, causal, padding, prepare
from headstock.registry import declare

QUERY, KEY, VALUE = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 3)
KEEP = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1]], dtype=torch.bool)


class Recorder:
    """Remembers what it was called with."""

    def __call__(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **keywords: Any
    ) -> tuple[Tensor, Tensor]:
        self.module, self.mask, self.keywords = module, attention_mask, keywords
        return query.new_zeros(2, query.shape[2], 4, 3), query.new_zeros(2, 4, query.shape[2], 5)


def _called(mask: Any, *, query: Tensor = QUERY, declared: str | None = None, **options: Any) -> Recorder:
    interface, recorder = AttentionInterface(), Recorder()
    if declared is not None:
        declare(recorder, mask=declared, features={"weights", "dropout", "softcap", "sinks", "bias"})
    interface["mine"] = recorder
    attend(
        query,
        KEY.to(query.dtype),
        VALUE.to(query.dtype),
        mask=mask,
        implementation="mine",
        interface=interface,
        **options,
    )
    return recorder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_who_says_nothing_gets_numbers_in_the_dtype_of_the_query(dtype: torch.dtype) -> None:
    mask = _called(causal(), query=QUERY.to(dtype)).mask
    expected = torch.zeros(5, 5, dtype=dtype).masked_fill(torch.ones(5, 5).triu(1).bool(), torch.finfo(dtype).min)
    assert mask.dtype == dtype
    assert torch.equal(mask, expected[None, None])


def test_booleans_go_to_who_declared_them() -> None:
    mask = _called(padding(KEEP), declared="dense").mask
    assert torch.equal(mask, KEEP[:, None, None].expand(2, 1, 5, 5))


def test_a_float_mask_is_handed_on_in_numbers() -> None:
    numbers = torch.randn(5, 5).masked_fill(~torch.ones(5, 5).tril().bool(), -torch.inf)
    assert torch.equal(_called(numbers).mask, numbers[None, None])
    assert torch.equal(_called(numbers, declared="causal_or_dense").mask, numbers[None, None])
    with pytest.raises(UnsupportedFeature, match="must hold nothing but 0 and the lowest finite value or -inf"):
        _called(numbers, declared="dense")
    zeros = torch.zeros(5, 5).masked_fill(~torch.ones(5, 5).tril().bool(), -torch.inf)
    assert torch.equal(_called(zeros, declared="dense").mask, torch.ones(1, 1, 5, 5).tril().bool())


def test_causality_is_said_without_a_mask_where_that_is_exact() -> None:
    recorder = _called(causal(), declared="causal_or_dense")
    assert (recorder.mask, recorder.keywords["is_causal"]) == (None, True)
    recorder = _called(causal() & padding(KEEP), declared="causal_or_dense")
    assert recorder.keywords["is_causal"] is False
    visible = torch.ones(5, 5).tril().bool() & KEEP[:, None, None]
    # Row 0 of batch row 1 sees nothing: it is shown everything, and zeroed afterwards.
    assert torch.equal(recorder.mask, visible | ~visible.any(-1, keepdim=True))


def test_a_triangle_in_a_rectangle_is_said_by_a_mask() -> None:
    for mask in (causal(), prepare(causal(), Geometry(2, 3, 5, heads=4))):
        offset = None if mask != causal() else 0
        recorder = _called(mask, query=QUERY[:, :, :3], declared="causal_or_dense", q_offset=offset)
        assert recorder.keywords["is_causal"] is False
        assert torch.equal(recorder.mask, torch.ones(1, 1, 3, 5).tril().bool())


@pytest.mark.parametrize("declared", [None, "dense", "causal_or_dense", "none"])
def test_no_mask_is_said_to_be_full_attention(declared: str | None) -> None:
    recorder = _called(None, declared=declared)
    assert (recorder.mask, recorder.keywords["is_causal"]) == (None, False)


def test_a_mask_is_not_given_to_who_takes_none() -> None:
    with pytest.raises(
        UnsupportedFeature, match=r"attention function 'mine' must do all that .* which takes no mask; ask"
    ):
        _called(causal(), declared="none")


def test_a_representation_of_ones_own() -> None:
    def lengths(mask: Any, geometry: Geometry, *, dtype: torch.dtype, device: Any = None) -> tuple[str, int]:
        return "lengths", geometry.kv_length

    ALL_MASK_ATTENTION_FUNCTIONS.register("lengths", lengths)
    try:
        assert _called(padding(KEEP), declared="lengths").mask == ("lengths", 5)
    finally:
        ALL_MASK_ATTENTION_FUNCTIONS.unregister("lengths")


def test_scaling_is_always_a_number_and_features_only_where_asked_for() -> None:
    assert _called(None).keywords == {"scaling": 1 / math.sqrt(8), "dropout": 0.0, "is_causal": False}
    sinks, bias = torch.randn(4), torch.randn(5, 5)
    options: dict[str, Any] = {
        "scaling": 2.0,
        "dropout": 0.5,
        "softcap": 3.0,
        "sinks": sinks,
        "bias": bias,
        "return_weights": True,
    }
    expected = {**options, "is_causal": False, "output_attentions": True}
    del expected["return_weights"]
    assert _called(None, declared="dense", **options).keywords == expected


def test_a_function_is_handed_nothing_that_it_does_not_take() -> None:
    def bare(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any) -> tuple[Tensor, None]:
        return query[..., :3].transpose(1, 2), None

    interface = AttentionInterface()
    interface["bare"] = bare
    attend(QUERY, KEY, VALUE, implementation="bare", interface=interface)
    with pytest.raises(UnsupportedFeature, match="'bare', which takes no scaling;"):
        attend(QUERY, KEY, VALUE, implementation="bare", interface=interface, scaling=1.0)


def test_spellings_are_those_of_the_function() -> None:
    seen: dict[str, Any] = {}

    def function(
        module: Any, query: Tensor, key: Tensor, value: Tensor, m: Any, *, s_aux: Any = None, position_bias: Any = None
    ) -> tuple[Tensor, None]:
        seen.update(s_aux=s_aux, position_bias=position_bias)
        return query[..., :3].transpose(1, 2), None

    interface, sinks, bias = AttentionInterface(), torch.randn(4), torch.randn(5, 5)
    interface["mine"] = function
    attend(QUERY, KEY, VALUE, implementation="mine", interface=interface, sinks=sinks, bias=bias)
    assert seen["s_aux"] is sinks
    assert seen["position_bias"] is bias


def test_modules_are_handed_on_and_stood_in_for() -> None:
    interface, recorder, module = AttentionInterface(), Recorder(), torch.nn.Identity()
    interface["mine"] = recorder
    call_attention(interface, "mine", module, QUERY, KEY, VALUE, None)
    assert recorder.module is module
    stand_in = _called(None, declared="dense", dropout=0.5, scaling=2.0).module
    assert (stand_in.training, stand_in.num_key_value_groups, stand_in.scaling) == (True, 2, 2.0)
    assert (stand_in.head_dim, stand_in.is_causal, stand_in.layer_idx, stand_in.sinks) == (8, False, None, None)
    assert stand_in.config._attn_implementation == "headstock"
    assert _called(None).module.training is False


def _returning(result: Any) -> AttentionInterface:
    interface = AttentionInterface()
    function: Callable[..., Any] = lambda module, query, key, value, mask: result  # noqa: E731
    interface["mine"] = declare(function, features={"weights"})
    return interface


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (torch.zeros(2, 5, 4, 3), r"'mine' must return \(output, weights or None\), got Tensor; return two values"),
        ((None, None), r"must return \(output, weights or None\), got tuple"),
        ((torch.zeros(2, 5, 4, 3),), "must return"),
        (
            (torch.zeros(2, 4, 5, 3), None),
            r"output of attention function 'mine' must be .* \[2, 5, 4, 3\], got \[2, 4, 5, 3\]; tr",
        ),
        ((torch.zeros(2, 5, 4, 8), None), r"got \[2, 5, 4, 8\]"),
    ],
)
def test_results_of_another_form_are_refused(result: Any, text: str) -> None:
    with pytest.raises(InvalidShape, match=text):
        attend(QUERY, KEY, VALUE, implementation="mine", interface=_returning(result))


def test_weights_that_are_promised_must_come() -> None:
    output = torch.zeros(2, 5, 4, 3)
    attend(QUERY, KEY, VALUE, implementation="mine", interface=_returning((output, None)))
    with pytest.raises(
        UnsupportedFeature, match="'mine' must return the weights that it says it honours, got None; return"
    ):
        attend(QUERY, KEY, VALUE, implementation="mine", interface=_returning((output, None)), return_weights=True)
    with pytest.raises(
        InvalidShape, match=r"weights of attention function 'mine' must be .* \[2, 4, 5, 5\], got \[2, 5, 5\];"
    ):
        attend(
            QUERY,
            KEY,
            VALUE,
            implementation="mine",
            interface=_returning((output, output.new_zeros(2, 5, 5))),
            return_weights=True,
        )
