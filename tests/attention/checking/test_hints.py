"""A wrong function is told the mistake that explains what it gives."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from headstock.attention import AttentionInterface, attend
from headstock.errors import WrongResult
from headstock.masks import Mask, causal
from headstock.registry import declare
from tests.support.attention_cases import DTYPES
from tests.support.attention_functions import additive, dense

QUERY, KEY, VALUE = torch.randn(2, 4, 7, 16), torch.randn(2, 2, 9, 16), torch.randn(2, 2, 9, 8)


def _checked(function: Callable[..., Any], dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    interface = AttentionInterface()
    interface["mine"] = function
    query, key, value = (each.to(dtype) for each in options.pop("tensors", (QUERY, KEY, VALUE)))
    return attend(query, key, value, implementation="mine", interface=interface, checked=True, **options)


def _without_mask(*args: Any, **keywords: Any) -> Any:
    module, query, key, value, _ = args
    return additive(module, query, key, value, None, scaling=keywords["scaling"])


def _upside_down(*args: Any, **keywords: Any) -> Any:
    module, query, key, value, mask = args
    return dense(module, query, key, value, ~mask, scaling=keywords["scaling"])


def _upside_down_and_added(*args: Any, **keywords: Any) -> Any:
    module, query, key, value, mask = args
    return additive(module, query, key, value, torch.finfo(mask.dtype).min - mask, scaling=keywords["scaling"])


def _from_the_first_key(*args: Any, **keywords: Any) -> Any:
    module, query, key, value, _ = args
    mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril()
    return dense(module, query, key, value, mask, scaling=keywords["scaling"])


def _scaled_as_usual(*args: Any, **keywords: Any) -> Any:
    return additive(*args, scaling=args[1].shape[3] ** -0.5)


def _unscaled(*args: Any, **keywords: Any) -> Any:
    return additive(*args, scaling=1.0)


def _scaled_twice(*args: Any, **keywords: Any) -> Any:
    return additive(*args, scaling=keywords["scaling"] * args[1].shape[3] ** -0.5)


def _wrong_groups(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **keywords: Any) -> Any:
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat(1, groups, 1, 1), value.repeat(1, groups, 1, 1)
    return additive(module, query, key, value, mask, scaling=keywords["scaling"])


MISTAKES: list[tuple[Callable[..., Any], str]] = [
    (_without_mask, "it is right without the mask: apply attention_mask"),
    (declare(_upside_down, mask="dense"), "it is right for the mask upside down: True, or 0 where the mask is added"),
    (_upside_down_and_added, "it is right for the mask upside down: True, or 0 where the mask is added"),
    (_from_the_first_key, "it is right for queries that begin with the first key: the last query is aligned with"),
    (_scaled_as_usual, r"it is right for scores times 1 / sqrt\(head_dim\): scale them by `scaling` alone"),
    (_unscaled, "it is right for scores times 1: scale them by `scaling` alone"),
    (_scaled_twice, r"it is right for scores times scaling / sqrt\(head_dim\): scale them by"),
    (_wrong_groups, r"it is right for query head h over key head h % kv_heads: it is over h // \(heads // kv_heads\)"),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("function", "told"), MISTAKES, ids=[function.__name__ for function, _ in MISTAKES])
def test_the_usual_mistakes(function: Callable[..., Any], told: str, dtype: torch.dtype) -> None:
    with pytest.raises(
        WrongResult, match=rf"the output of attention function 'mine' .* got (a deviation|NaN) .*; {told}"
    ):
        _checked(function, dtype, mask=causal(), scaling=0.7)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_mask_that_nobody_gave(dtype: torch.dtype) -> None:
    def always_causal(*args: Any, **keywords: Any) -> Any:
        module, query, key, value, _ = args
        mask = torch.ones(7, 9, dtype=torch.bool).tril(2)
        return dense(module, query, key, value, mask, scaling=keywords["scaling"])

    with pytest.raises(WrongResult, match=r"it is right for a causal mask: without a mask every key is seen"):
        _checked(always_causal, dtype)


@pytest.mark.parametrize("feature", ["softcap", "sinks", "bias"])
def test_a_feature_that_is_declared_and_ignored(feature: str) -> None:
    def ignores(
        module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, *, scaling: float, **keywords: Any
    ) -> Any:
        return additive(module, query, key, value, mask, scaling=scaling)

    given: Any = {feature: {"softcap": 0.5, "sinks": torch.randn(4), "bias": torch.randn(7, 9)}[feature]}
    with pytest.raises(WrongResult, match=rf"it is right without {feature}: honour it, or leave it out of declare\("):
        _checked(declare(ignores, features={feature}), mask=causal(), **given)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_other_layout_where_sizes_coincide(dtype: torch.dtype) -> None:
    def heads_first(*args: Any, **keywords: Any) -> Any:
        output, weights = additive(*args, **keywords)
        return output.transpose(1, 2), weights

    square = torch.randn(2, 4, 4, 16), torch.randn(2, 2, 9, 16), torch.randn(2, 2, 9, 8)
    told = r"it is right in the layout \[batch, heads, queries, head_dim\]: return \[batch, queries, heads, head_dim\]"
    with pytest.raises(WrongResult, match=told):
        _checked(heads_first, dtype, tensors=square, mask=causal())


def test_not_a_number_where_a_row_is_empty() -> None:
    def divides_by_nothing(*args: Any, **keywords: Any) -> Any:
        module, query, key, value, mask = args
        return dense(module, query, key, value, mask, scaling=keywords["scaling"])

    second_sees_nothing = Mask(lambda b, h, i, j: (i != 3) & (j <= i))
    # Undeclared, the row is zeroed for it.
    _checked(declare(functools.partial(divides_by_nothing), mask="dense"), mask=second_sees_nothing)
    declare(divides_by_nothing, mask="dense", features={"empty_rows"})
    with pytest.raises(
        WrongResult,
        match=r"got NaN in 64 of 448 numbers, the first at \[0, 0, 1, 0\]; a row that sees no",
    ):
        _checked(divides_by_nothing, mask=second_sees_nothing)


def test_not_a_number_anywhere() -> None:
    def one(*args: Any, **keywords: Any) -> Any:
        output, weights = additive(*args, scaling=keywords["scaling"])
        output = output.clone()
        output[1, 6, 3, 7] = torch.nan
        return output, weights

    told = r"got NaN in 1 of 448 numbers, the first at \[1, 3, 6, 7\]; check how it reads its mask and its features"
    with pytest.raises(WrongResult, match=told):
        _checked(one, mask=causal())


def test_a_mistake_of_its_own_is_told_where_it_shows_most() -> None:
    def adds_one(*args: Any, **keywords: Any) -> Any:
        output, weights = additive(*args, scaling=keywords["scaling"])
        shift = torch.zeros_like(output)
        shift[1, 5, 2, 3] = 1.0
        return output + shift, weights

    with pytest.raises(
        WrongResult, match=r"a deviation of 1.0e\+00 where .*, the worst at \[1, 2, 5, 3\]; check how it reads its mask"
    ):
        _checked(adds_one)
