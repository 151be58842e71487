"""What an output must be besides right: its shape, its dtype, its device."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from headstock.attention import AttentionInterface, attend
from headstock.errors import InvalidShape, UnknownName
from tests.support.attention_functions import additive

QUERY, KEY, VALUE = torch.randn(2, 4, 7, 16), torch.randn(2, 2, 9, 16), torch.randn(2, 2, 9, 8)


def _checked(change: Callable[[torch.Tensor], Any], **options: Any) -> Any:
    def mine(*args: Any, **keywords: Any) -> Any:
        output, weights = additive(*args, scaling=keywords["scaling"])
        return change(output), weights

    interface = AttentionInterface()
    interface["mine"] = mine
    return attend(QUERY, KEY, VALUE, implementation="mine", interface=interface, checked=True, **options)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_dtype(dtype: torch.dtype) -> None:
    told = rf"output of attention function 'mine' must be torch.float32 on cpu, got {dtype} on cpu; convert it with"
    with pytest.raises(InvalidShape, match=told):
        _checked(lambda output: output.to(dtype))


def test_the_dtype_is_autocast_s() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert _checked(lambda output: output.bfloat16()).dtype == torch.bfloat16
        with pytest.raises(InvalidShape, match=r"must be torch.bfloat16 on cpu, got torch.float32 on cpu"):
            _checked(lambda output: output.float())


def test_another_device() -> None:
    with pytest.raises(InvalidShape, match=r"must be torch.float32 on cpu, got torch.float32 on meta; convert it"):
        _checked(lambda output: output.to("meta"))


@pytest.mark.parametrize(
    ("change", "came"),
    [
        (lambda output: output.transpose(1, 2), r"\[2, 4, 7, 8\]; transpose\(1, 2\) turns heads and queries"),
        (lambda output: output[:, :, :, :4], r"\[2, 7, 4, 4\]"),
        (lambda output: output.flatten(2), r"\[2, 7, 32\]"),
    ],
)
def test_another_shape(change: Callable[[torch.Tensor], Any], came: str) -> None:
    told = rf"must be \[batch, queries, heads, head_dim\] \[2, 7, 4, 8\], got {came}"
    with pytest.raises(InvalidShape, match=told):
        _checked(change)


def test_no_tensor() -> None:
    with pytest.raises(InvalidShape, match=r"attention function 'mine' must return \(output, weights or None\), got"):
        _checked(lambda output: output.tolist())


def test_an_unknown_implementation() -> None:
    with pytest.raises(UnknownName, match="'mime'"):
        attend(QUERY, KEY, VALUE, implementation="mime", checked=True)


def test_compiled_code_is_no_place_for_it() -> None:
    def function() -> torch.Tensor:
        return attend(QUERY, KEY, VALUE, implementation="eager", checked=True)

    compiled = torch.compile(function, backend="eager", fullgraph=True)
    with pytest.raises(Exception, match=r"UnsupportedFeature.*a checked call must be made outside of compiled code"):
        compiled()
