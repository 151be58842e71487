"""A function that writes to what it is given is found out."""

from typing import Any

import pytest
import torch

from headstock.attention import AttentionInterface, attend
from headstock.errors import WrongResult
from headstock.masks import Geometry, causal, prepare
from headstock.registry import declare
from tests.support.attention_functions import additive


def _run(change: Any, **options: Any) -> Any:
    """Attention by a function that changes something first, or last."""

    def mine(
        module: Any, query: Any, key: Any, value: Any, mask: Any, *, scaling: float, sinks: Any = None, bias: Any = None
    ) -> Any:
        result = additive(module, query, key, value, mask, scaling=scaling)
        change(query, key, value, mask, sinks, bias)
        return result

    interface = AttentionInterface()
    interface["mine"] = declare(mine, features={"sinks", "bias", "empty_rows"})
    query, key, value = torch.randn(2, 4, 7, 16), torch.randn(2, 2, 9, 16), torch.randn(2, 2, 9, 8)
    return attend(query, key, value, implementation="mine", interface=interface, checked=True, **options)


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (0, "got 128 of 896 numbers changed of the query"),
        (1, "got 64 of 576 numbers changed of the key"),
        (2, "got 32 of 288 numbers changed of the value"),
        (3, r"got 3 of 63 numbers changed of the mask; work on a copy"),
        (4, "got 4 of 4 numbers changed of the sinks"),
        (5, "got 9 of 63 numbers changed of the bias"),
    ],
)
def test_changed_numbers(number: int, told: str) -> None:
    def change(*given: Any) -> None:
        part = given[number] if number == 4 else given[number].select(-2, 0)
        part.sub_(1.0)

    mask = prepare(causal(), Geometry(2, 7, 9, 2, heads=4))
    with pytest.raises(WrongResult, match=rf"attention function 'mine' must leave its inputs as they are, {told}"):
        _run(change, mask=mask, sinks=torch.full((4,), -100.0), bias=torch.zeros(7, 9))


def test_writing_what_was_there() -> None:
    with pytest.raises(WrongResult, match=r"got what was there written to the key; work on a copy"):
        _run(lambda query, key, *others: key.mul_(1.0))


def test_a_mask_that_was_given_as_a_tensor() -> None:
    with pytest.raises(WrongResult, match=r"numbers changed of the mask as it was given"):
        _run(lambda query, key, value, mask, *others: mask.zero_(), mask=torch.randn(7, 9))


def test_inference_tensors_are_looked_at_too() -> None:
    with torch.inference_mode():
        _run(lambda *given: None)
        with pytest.raises(WrongResult, match=r"got 576 of 576 numbers changed of the key"):
            _run(lambda query, key, *others: key.add_(1.0))


def test_numbers_that_are_none_are_no_change() -> None:
    interface = AttentionInterface()
    interface["mine"] = additive
    key = torch.randn(1, 1, 3, 4)
    key[0, 0, 2] = torch.nan
    mask = torch.tensor([[True, True, False]])
    query, value = key[:, :, :1], key.nan_to_num()
    with pytest.raises(WrongResult, match=r"must equal the definition .*, got NaN"):  # and not: must leave its inputs
        attend(query, key, value, mask=mask, implementation="mine", interface=interface, checked=True)


def test_of_parts_of_one_tensor_the_one_that_changed_is_told() -> None:
    def mine(module: Any, query: Any, key: Any, value: Any, mask: Any, *, scaling: float) -> Any:
        result = additive(module, query, key, value, mask, scaling=scaling)
        value.add_(1.0)
        return result

    interface = AttentionInterface()
    interface["mine"] = mine
    with pytest.raises(WrongResult, match=r"got 60 of 60 numbers changed of the value; work on a copy"):
        attend(*torch.randn(3, 1, 4, 3, 5), implementation="mine", interface=interface, checked=True)
