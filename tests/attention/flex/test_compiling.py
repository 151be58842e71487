"""Programs are made when they are called, once for each kind, and each counts its own recompilations."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from headstock.attention.flex import compiling
from headstock.attention.flex.compiling import called, compiled, refuse_uncompiled, unsized
from headstock.errors import UnsupportedFeature
from tests.support.flex import graphs, traced_only


def _doubling() -> Callable[..., Tensor]:
    def doubled(tensor: Tensor) -> Tensor:
        return tensor * 2

    return doubled


def test_a_kind_is_made_once() -> None:
    with traced_only():
        assert compiled("one", _doubling) is compiled("one", _doubling)
        assert compiled("one", _doubling) is not compiled("other", _doubling)
        assert list(compiling._COMPILED) == ["one", "other"]


def test_kinds_of_one_function_do_not_use_up_each_others_recompilations() -> None:
    dtypes = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.int16, torch.int32)
    with traced_only(), torch._dynamo.config.patch(recompile_limit=2):
        for dtype in dtypes:
            tensor = torch.ones(3, dtype=dtype)
            assert torch.equal(called(compiled(dtype, _doubling), tensor), tensor * 2)


def test_lengths_that_are_equal_once_are_not_taken_to_be_equal_always() -> None:
    def joined() -> Callable[..., Tensor]:
        def both(left: Tensor, right: Tensor) -> Tensor:
            return torch.cat([left, right])

        return both

    with traced_only():
        before = graphs()
        for left, right in ((5, 5), (4, 7), (9, 2)):
            assert len(called(compiled("joined", joined), torch.ones(left), torch.ones(right))) == left + right
        assert graphs() == before + 1


def test_a_size_that_nothing_is_known_of_may_be_one() -> None:
    with traced_only():
        before = graphs()
        for length in (1, 2, 7):
            called(compiled("doubled", _doubling), *unsized(torch.ones(length)))
        assert graphs() == before + 1


def test_what_is_not_compiled_is_refused() -> None:
    with pytest.raises(UnsupportedFeature, match=r"must be compiled, got compilation switched off \(TORCH_COMPILE_DIS"):
        refuse_uncompiled()
