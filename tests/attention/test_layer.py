"""Attention for a layer: keywords of three kinds, by every function."""

from typing import Any

import pytest
import torch
from torch import Tensor

from headstock.attention import AttentionInterface, attend, call_attention
from headstock.attention.words import TRANSPORT
from headstock.errors import InvalidConfig, UnknownName, UnsupportedFeature
from headstock.masks import Mask, causal, padding, sliding_window
from tests.support.attention_functions import additive, by_representation
from tests.support.no_work import NoTensorWork

QUERY, KEY, VALUE = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 3)
NAMES = ["eager", "sdpa", "auto", *by_representation]


def _interface() -> AttentionInterface:
    interface = AttentionInterface()
    interface.update(by_representation)
    return interface


def _output(name: str, mask: Mask | Tensor | None, **keywords: Any) -> Tensor:
    output, weights = call_attention(_interface(), name, None, QUERY, KEY, VALUE, mask, **keywords)
    assert weights is None
    return output


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mask", [None, causal(), padding(torch.eye(2, 5).bool())], ids=["none", "causal", "padding"])
def test_it_is_attend_with_heads_behind_queries(name: str, mask: Mask | None) -> None:
    expected = attend(QUERY, KEY, VALUE, mask=mask, implementation=name, interface=_interface())
    assert torch.equal(_output(name, mask), expected.transpose(1, 2))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("facts", "spelled"),
    [
        ({"is_causal": True}, causal()),
        ({"sliding_window": 2}, sliding_window(2)),
        ({"is_causal": True, "sliding_window": 2}, sliding_window(2)),
        ({"is_causal": False}, None),
        ({"is_causal": None, "sliding_window": None}, None),
    ],
)
def test_facts_spell_a_mask_where_there_is_none(name: str, facts: dict[str, Any], spelled: Mask | None) -> None:
    assert torch.equal(_output(name, None, **facts), _output(name, spelled))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mask", [torch.ones(5, 5, dtype=torch.bool), sliding_window(3, right=1), torch.randn(5, 5)])
@pytest.mark.parametrize(
    "facts", [{"is_causal": True}, {"sliding_window": 1}, {"is_causal": True, "sliding_window": 1}]
)
def test_facts_are_not_applied_beside_a_mask(name: str, mask: Mask | Tensor, facts: dict[str, Any]) -> None:
    if name == "dense" and isinstance(mask, Tensor) and mask.is_floating_point():
        mask = mask > 0
    assert torch.equal(_output(name, mask, **facts), _output(name, mask))


@pytest.mark.parametrize("name", NAMES)
def test_transport_and_none_change_nothing(name: str) -> None:
    keywords = dict.fromkeys(TRANSPORT, torch.ones(1)) | {"s_aux": None, "softcap": None, "indices": None}
    assert torch.equal(_output(name, causal(), **keywords), _output(name, causal()))


@pytest.mark.parametrize("name", [each for each in NAMES if each != "auto"])
def test_any_other_keyword_is_refused_by_name(name: str) -> None:
    with pytest.raises(UnsupportedFeature, match="must know each keyword that may change the result, got 'indices'"):
        _output(name, None, indices=torch.ones(1), use_cache=True)


@pytest.mark.parametrize("auto", [False, True])
def test_a_function_is_handed_what_it_alone_names(auto: bool) -> None:
    interface = AttentionInterface()
    handed: dict[str, Any] = {}

    def mine(*args: Any, indices: Any = None, sliding_window: Any = None, **keywords: Any) -> Any:
        handed.update(indices=indices, sliding_window=sliding_window, **keywords)
        return additive(*args, **keywords)

    interface["sdpa"] = mine
    name = "auto" if auto else "sdpa"
    keywords: dict[str, Any] = {"indices": QUERY, "position_ids": QUERY, "sliding_window": 3, "is_causal": True}
    call_attention(interface, name, None, QUERY, KEY, VALUE, causal(), **keywords)
    assert handed["indices"] is QUERY
    assert handed["sliding_window"] is None
    assert handed["is_causal"] is False
    assert "position_ids" not in handed


@pytest.mark.parametrize(
    ("name", "keywords", "feature"),
    [
        ("sdpa", {"softcap": 30.0}, "softcap"),
        ("sdpa", {"s_aux": torch.randn(4)}, "sinks"),
        ("sdpa", {"sinks": torch.randn(4)}, "sinks"),
        ("sdpa", {"output_attentions": True}, "weights"),
        ("sdpa", {"return_weights": True}, "weights"),
        ("additive", {"dropout": 0.1}, "dropout"),
        ("additive", {"position_bias": torch.randn(5, 5)}, "bias"),
        ("dense", {"softcap": 30.0}, "softcap"),
    ],
)
def test_features_are_refused_before_any_tensor_work(name: str, keywords: dict[str, Any], feature: str) -> None:
    interface, mask = _interface(), padding(torch.eye(2, 5).bool())
    text = rf"'{name}' must do all that the call asks for, got '{name}', which does not honour {feature}; ask for less"
    with NoTensorWork(), pytest.raises(UnsupportedFeature, match=text):
        call_attention(interface, name, None, QUERY, KEY, VALUE, mask, **keywords)
    with NoTensorWork(), pytest.raises(UnsupportedFeature, match="'eager' honours every feature"):
        interface[name](None, QUERY, KEY, VALUE, None, **keywords) if name == "sdpa" else call_attention(
            interface, name, None, QUERY, KEY, VALUE, None, **keywords
        )


def test_two_spellings_of_a_feature_are_one() -> None:
    sinks, bias = torch.randn(4), torch.randn(5, 5)
    expected = _output("eager", None, sinks=sinks, bias=bias)
    assert torch.equal(_output("eager", None, s_aux=sinks, position_bias=bias), expected)
    assert torch.equal(_output("eager", None, s_aux=sinks, sinks=sinks, bias=bias), expected)
    with pytest.raises(UnsupportedFeature, match="bias must be given once, got two different values"):
        _output("eager", None, bias=bias, position_bias=bias + 1)


@pytest.mark.parametrize("keywords", [{"output_attentions": True}, {"return_weights": True}, {"output_attentions": 1}])
def test_weights_come_where_they_are_asked_for(keywords: dict[str, Any]) -> None:
    for name in ("eager", "auto"):
        output, weights = call_attention(_interface(), name, None, QUERY, KEY, VALUE, causal(), **keywords)
        assert weights is not None
        torch.testing.assert_close(output.transpose(1, 2), weights @ VALUE.repeat_interleave(2, 1))


def test_unknown_names_and_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(UnknownName, match=r"attention function must be one of .* got 'spda'; did you mean 'sdpa'"):
        _output("spda", None)
    with pytest.raises(InvalidConfig, match="dropout must be a probability"):
        _output("eager", None, dropout=2.0)
