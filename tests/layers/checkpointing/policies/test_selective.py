import pickle
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from headstock.errors import InvalidConfig, UnsupportedFeature
from headstock.layers.checkpointing import set_gradient_checkpointing
from headstock.layers.checkpointing.policies import KEPT_OPERATIONS, selective
from headstock.layers.checkpointing.policies.selective import SelectiveCheckpoint
from tests.support.checkpointing import Cell, Encoder, run, same

aten = torch.ops.aten


class Count(TorchDispatchMode):
    """How often each operation runs inside the block, forward and backward."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.calls: Counter[Any] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        self.calls[function] += 1
        return function(*args, **(keywords or {}))


@pytest.fixture(scope="module", autouse=True)
def noise() -> Iterator[None]:
    """An attention-like operation: it draws random numbers only where its dropout is positive."""
    library = torch.library.Library("headstock_test", "DEF")
    library.define("noise(Tensor x, float dropout_p=0.) -> Tensor", tags=(torch.Tag.nondeterministic_seeded,))
    library.impl("noise", lambda x, dropout_p=0.0: x + (torch.rand(()) if dropout_p else 0), "CPU")
    torch.library.register_autograd("headstock_test::noise", lambda context, grad: (grad, None), lib=library)
    yield
    library._destroy()


def _calls(model: Encoder, policy: str | None, **options: Any) -> Counter[Any]:
    hidden = torch.randn(2, 8, requires_grad=True)
    set_gradient_checkpointing(model, policy, **options)
    with Count() as count:
        run(model, hidden_states=hidden)
    calls: Counter[Any] = count.calls
    return calls


def test_products_are_kept_and_the_rest_is_recomputed() -> None:
    model = Encoder(dropout=0.1)
    plain, full, chosen = (_calls(model, policy) for policy in (None, "full", "selective"))
    assert (plain[aten.addmm.default], full[aten.addmm.default], chosen[aten.addmm.default]) == (6, 12, 6)
    assert (plain[aten.gelu.default], full[aten.gelu.default], chosen[aten.gelu.default]) == (3, 6, 6)


def test_chosen_operations_replace_the_usual_ones() -> None:
    calls = _calls(Encoder(dropout=0.1), "selective", ops=[aten.gelu])
    assert (calls[aten.addmm.default], calls[aten.gelu.default]) == (12, 3)


def test_attention_is_kept() -> None:
    cell = Cell(
        lambda weight, hidden: torch.nn.functional.scaled_dot_product_attention(hidden * weight, hidden, hidden).sin()
    )
    hidden = torch.randn(1, 2, 3, 4, requires_grad=True)
    plain = run(cell, cell.__call__, hidden=hidden)
    set_gradient_checkpointing(cell, "selective")
    with Count() as count:
        assert same(plain, run(cell, cell.__call__, hidden=hidden))
    assert count.calls[aten._scaled_dot_product_flash_attention_for_cpu.default] == 1


@pytest.mark.parametrize(("dropout", "runs"), [(0.0, 1), (0.5, 2)])
def test_an_operation_with_dropout_is_recomputed_so_that_later_draws_stay(dropout: float, runs: int) -> None:
    noise = torch.ops.headstock_test.noise

    def forward(weight: Tensor, hidden: Tensor) -> Tensor:
        hidden = noise(hidden * weight, dropout)
        return torch.nn.functional.dropout(hidden.tanh(), 0.5).sin()

    cell = Cell(forward, width=64)
    hidden = torch.randn(64, requires_grad=True)
    plain = run(cell, cell.__call__, hidden=hidden)
    set_gradient_checkpointing(cell, "selective", ops=[noise])
    with Count() as count:
        assert same(plain, run(cell, cell.__call__, hidden=hidden))
    assert count.calls[noise.default] == runs


def test_dropout_by_keyword_is_seen() -> None:
    function = selective({"": Cell(print)}, ops=[torch.ops.headstock_test.noise])[""]
    assert isinstance(function, SelectiveCheckpoint)
    cell = Cell(lambda weight, hidden: torch.ops.headstock_test.noise(hidden * weight, dropout_p=0.5).tanh())
    cell.gradient_checkpointing, cell._gradient_checkpointing_func = True, function
    with Count() as count:
        run(cell, cell.__call__, hidden=torch.randn(4, requires_grad=True))
    assert count.calls[torch.ops.headstock_test.noise.default] == 2


def test_reentry_is_refused() -> None:
    with pytest.raises(
        UnsupportedFeature, match="'selective' must run with use_reentrant=False, got True; leave it out"
    ):
        set_gradient_checkpointing(Encoder(), "selective", use_reentrant=True)


@pytest.mark.parametrize("wrong", [torch.matmul, "aten.mm", 3])
def test_what_is_no_operator_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidConfig, match=r"ops of selective must be operators such as torch.ops.aten.mm, got "):
        set_gradient_checkpointing(Encoder(), "selective", ops=[wrong])


def test_an_operation_that_always_draws_is_refused() -> None:
    with pytest.raises(InvalidConfig, match=r"must repeat the same result, got aten.bernoulli.default, which draws "):
        selective({}, ops=[aten.bernoulli])


def test_a_function_pickles_with_its_operators() -> None:
    function = selective({"": Cell(print)})[""]
    again = pickle.loads(pickle.dumps(function))
    assert again == function
    assert repr(again) == repr(function)
    assert "aten.addmm.default" in repr(function)
    assert "flex_attention" in repr(function)


def test_the_usual_operations_do_not_write_to_their_arguments() -> None:
    function = selective({"": Cell(print)}, ops=KEPT_OPERATIONS)[""]
    assert isinstance(function, SelectiveCheckpoint)
    written = [operation for operation in function.kept if hasattr(operation, "_schema")]
    assert len(written) > 20
    assert not any(operation._schema.is_mutable for operation in written)
