import inspect
import io
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from transformers.pytorch_utils import Conv1D as TheirConv1D
from transformers.pytorch_utils import prune_linear_layer as their_prune_linear_layer

from headstock.errors import InvalidConfig, InvalidShape, UnsupportedFeature
from headstock.layers import (
    Conv1D,
    find_pruneable_heads_and_indices,
    prune_conv1d_layer,
    prune_layer,
    prune_linear_layer,
)
from tests.support.layers import MaskableAttention, assert_within


@st.composite
def prunings(draw: st.DrawFn) -> tuple[int, set[int], set[int]]:
    """A number of heads, and two sets of them that may overlap."""
    total = draw(st.integers(1, 6))
    some = st.sets(st.integers(0, total - 1))
    return total, draw(some), draw(some)


@given(prunings(), st.integers(0, 4))
@example((3, {0}, {2}), 2)
def test_indices_are_the_rows_of_the_heads_that_stay(pruning: tuple[int, set[int], set[int]], size: int) -> None:
    total, gone, heads = pruning
    # The definition: write each row's head beside it, take the lost rows away, then look which of the others stay.
    rows = [head for head in range(total) for _ in range(size) if head not in gone]
    pruned, index = find_pruneable_heads_and_indices(list(heads), total - len(gone), size, gone)
    assert pruned == heads - gone
    assert index.dtype is torch.int64
    assert index.tolist() == [row for row, head in enumerate(rows) if head not in heads]


@given(prunings())
def test_sets_lists_and_ranges_say_the_same(pruning: tuple[int, set[int], set[int]]) -> None:
    total, gone, _ = pruning
    spellings = [find_pruneable_heads_and_indices(each, total - len(gone), 2, gone) for each in ({0}, [0, 0], range(1))]
    assert all(pruned == spellings[0][0] and torch.equal(index, spellings[0][1]) for pruned, index in spellings)


@pytest.mark.parametrize(
    ("heads", "gone", "wrong"), [({4}, set(), r"\[4\]"), ({-1, 7}, set(), r"\[-1, 7\]"), ({0}, {9}, r"\[9\]")]
)
def test_impossible_heads_are_refused_by_name(heads: set[int], gone: set[int], wrong: str) -> None:
    with pytest.raises(
        InvalidConfig, match=rf"heads must be numbered 0 to \d \(4 left and \d pruned already\), got {wrong}"
    ):
        find_pruneable_heads_and_indices(heads, 4, 2, gone)


@pytest.mark.parametrize(("n_heads", "size"), [(-1, 2), (2, -3)])
def test_negative_sizes_are_refused(n_heads: int, size: int) -> None:
    with pytest.raises(InvalidConfig, match=f"size of heads must be 0 or more, got {n_heads} and {size}"):
        find_pruneable_heads_and_indices([], n_heads, size, set())


def test_a_fraction_is_no_head() -> None:
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        find_pruneable_heads_and_indices([1.0], 4, 2, set())  # type: ignore[list-item]  # what is refused


def pair(layer: type[nn.Module]) -> tuple[MaskableAttention, MaskableAttention]:
    """Two attentions of equal weights."""
    one, other = (MaskableAttention(5, 3, 4, layer).double() for _ in range(2))
    for parameter in one.parameters():
        nn.init.normal_(parameter)
    other.load_state_dict(one.state_dict())
    return one, other


KINDS = pytest.mark.parametrize("layer", [nn.Linear, Conv1D])


@KINDS
@given(heads=st.sets(st.integers(0, 4)), length=st.integers(1, 6))
@example(heads={0, 1, 2, 3, 4}, length=3)
def test_pruned_equals_masked(layer: type[nn.Module], heads: set[int], length: int) -> None:
    pruned, masked = pair(layer)
    pruned.prune(heads)
    gate = torch.tensor([float(head not in heads) for head in range(5)], dtype=torch.float64)
    hidden = torch.randn(2, length, 4, dtype=torch.float64)
    assert pruned.heads == 5 - len(heads)
    assert_within(pruned(hidden), masked(hidden, gate), masked.bound(hidden))


@KINDS
@given(steps=st.lists(st.sets(st.integers(0, 4)), max_size=4))
@example(steps=[{0}, {2}, {0, 1}])
def test_pruning_in_steps_equals_pruning_at_once(layer: type[nn.Module], steps: list[set[int]]) -> None:
    stepwise, at_once = pair(layer)
    for heads in steps:
        stepwise.prune(heads)
    at_once.prune(set(itertools.chain.from_iterable(steps)))
    assert stepwise.pruned == at_once.pruned
    for mine, other in zip(stepwise.parameters(), at_once.parameters(), strict=True):
        assert torch.equal(mine, other)


@given(index=st.lists(st.integers(0, 4), max_size=7), dim=st.integers(0, 1), bias=st.booleans())
def test_linear_weights_are_those_that_transformers_takes(index: list[int], dim: int, bias: bool) -> None:
    layer = nn.Linear(5, 5, bias=bias)
    kept = torch.tensor(index, dtype=torch.int64)
    ours, theirs = prune_linear_layer(layer, kept, dim), without_warning(their_prune_linear_layer, layer, kept, dim)
    assert (ours.in_features, ours.out_features, ours.bias is None) == (
        theirs.in_features,
        theirs.out_features,
        theirs.bias is None,
    )
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)


def without_warning(function: Callable[..., nn.Linear], *args: Any) -> nn.Linear:
    """Theirs initialises the new layer first, and torch warns where that is empty."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return function(*args)


@given(index=st.lists(st.integers(0, 4), max_size=7), dim=st.integers(0, 1))
def test_conv1d_is_the_transposed_linear(index: list[int], dim: int) -> None:
    conv = Conv1D(5, 5)
    nn.init.normal_(conv.bias)
    linear = nn.Linear(5, 5)
    linear.load_state_dict({"weight": conv.weight.detach().t().contiguous(), "bias": conv.bias.detach()})
    kept = torch.tensor(index, dtype=torch.int64)
    ours, theirs = prune_conv1d_layer(conv, kept, dim), prune_linear_layer(linear, kept, 1 - dim)
    assert (ours.nx, ours.nf) == (theirs.in_features, theirs.out_features)
    assert torch.equal(ours.weight, theirs.weight.t())
    assert torch.equal(ours.bias, theirs.bias)
    x = torch.randn(2, ours.nx)
    torch.testing.assert_close(ours(x), theirs(x))


KEPT = torch.tensor([3, 1])
MAKERS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "linear": (lambda **options: nn.Linear(4, 4, **options), prune_linear_layer),
    "conv1d": (lambda **options: Conv1D(4, 4, **options), prune_conv1d_layer),
    "either linear": (lambda **options: nn.Linear(4, 4, **options), prune_layer),
    "either conv1d": (lambda **options: Conv1D(4, 4, **options), prune_layer),
}
BOTH = pytest.mark.parametrize(("make", "prune"), MAKERS.values(), ids=MAKERS)


@BOTH
@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtype_is_kept(make: Any, prune: Any, dim: int, dtype: torch.dtype) -> None:
    assert {each.dtype for each in prune(make(dtype=dtype), KEPT, dim).parameters()} == {dtype}


@BOTH
def test_device_is_kept(make: Any, prune: Any) -> None:
    pruned = prune(make(device="meta"), KEPT)
    assert {each.device.type for each in pruned.parameters()} == {"meta"}


@BOTH
@pytest.mark.parametrize("weight", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_training_flags_are_kept(make: Any, prune: Any, weight: bool, bias: bool, training: bool) -> None:
    layer = make().train(training)
    layer.weight.requires_grad_(weight)
    layer.bias.requires_grad_(bias)
    pruned = prune(layer, KEPT)
    assert (pruned.weight.requires_grad, pruned.bias.requires_grad, pruned.training) == (weight, bias, training)
    assert all(each.is_leaf and isinstance(each, nn.Parameter) for each in pruned.parameters())


@BOTH
@pytest.mark.parametrize("dim", [0, 1])
def test_nothing_is_shared_with_the_original(make: Any, prune: Any, dim: int) -> None:
    layer = make()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    pruned = prune(layer, torch.arange(4), dim)
    with torch.no_grad():
        for parameter in pruned.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert (layer.weight.shape, layer.training) == ((4, 4), True)


@BOTH
@pytest.mark.parametrize("dim", [0, 1])
def test_a_pruned_layer_saves_loads_and_prints_as_one_of_its_size(make: Any, prune: Any, dim: int) -> None:
    pruned = prune(make(), KEPT, dim)
    saved = io.BytesIO()
    torch.save(pruned.state_dict(), saved)
    saved.seek(0)
    sizes = list(inspect.signature(type(pruned)).parameters)[:2]
    fresh = type(pruned)(*(getattr(pruned, size) for size in sizes))
    fresh.load_state_dict(torch.load(saved, weights_only=True))
    assert repr(fresh) == repr(pruned)
    assert torch.equal(fresh.weight, pruned.weight)


def test_prune_layer_cuts_outputs_unless_told_otherwise() -> None:
    index = torch.tensor([0])
    linear, conv = nn.Linear(3, 4), Conv1D(4, 3)
    assert (prune_layer(linear, index).out_features, prune_layer(linear, index, dim=1).in_features) == (1, 1)
    assert (prune_layer(conv, index).nf, prune_layer(conv, index, dim=0).nx) == (1, 1)


def test_a_layer_without_bias_stays_without() -> None:
    assert prune_linear_layer(nn.Linear(4, 4, bias=False), KEPT).bias is None


def test_order_and_repetition_of_the_index_are_kept() -> None:
    layer = nn.Linear(4, 4)
    pruned = prune_linear_layer(layer, torch.tensor([2, 0, 2], dtype=torch.int32))
    assert torch.equal(pruned.weight, torch.stack([layer.weight[2], layer.weight[0], layer.weight[2]]))
    assert layer.bias.tolist()[2] == pruned.bias.tolist()[2]


class Named(nn.Linear):
    """A subclass with a constructor of its own."""

    def __init__(self, name: str) -> None:
        super().__init__(4, 4)
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


def test_a_subclass_keeps_its_class_and_attributes() -> None:
    layer = Named("projection")
    pruned = prune_linear_layer(layer, KEPT)
    assert (type(pruned), pruned.name, pruned.out_features) == (Named, "projection", 2)
    x = torch.randn(3, 4)
    torch.testing.assert_close(pruned(x), layer(x)[:, KEPT])


def test_the_output_layer_of_torchs_attention_can_be_pruned() -> None:
    layer = nn.MultiheadAttention(4, 2).out_proj
    assert type(prune_linear_layer(layer, KEPT, dim=1)) is type(layer)


def test_transformers_conv1d_is_taken_and_stays_one() -> None:
    layer = TheirConv1D(4, 4)
    x = torch.randn(3, 4)
    for prune in (prune_conv1d_layer, prune_layer):
        pruned = prune(layer, KEPT)
        assert isinstance(pruned, TheirConv1D)
        assert (pruned.nf, pruned.nx) == (2, 4)
        torch.testing.assert_close(pruned(x), layer(x)[:, KEPT])


def test_hooks_and_patched_methods_stay_with_the_old_layer() -> None:
    layer = nn.Linear(4, 4)
    layer.register_forward_hook(lambda *args: pytest.fail("the hook of the old layer ran"))
    layer.forward = lambda x: pytest.fail("the forward of the old layer ran")  # type: ignore[assignment, method-assign]
    assert prune_linear_layer(layer, KEPT)(torch.randn(3, 4)).shape == (3, 2)


def test_gradients_and_history_are_not_taken_over() -> None:
    layer = nn.Linear(4, 4)
    layer(torch.randn(2, 4)).sum().backward()
    assert all(each.grad is None and each.is_leaf for each in prune_linear_layer(layer, KEPT).parameters())


@BOTH
@pytest.mark.parametrize("index", [[4], [-1], [0, 9]])
def test_an_index_outside_is_refused(make: Any, prune: Any, index: list[int]) -> None:
    outside = [each for each in index if not 0 <= each < 4]
    with pytest.raises(InvalidShape, match=rf"index to keep must lie in 0 to 3, got \[{outside[0]}\]"):
        prune(make(), torch.tensor(index))


@BOTH
@pytest.mark.parametrize(
    "index",
    [torch.ones(4, dtype=torch.bool), torch.tensor([1.0]), torch.tensor([[1]]), torch.tensor(1), torch.ones(1).byte()],
)
def test_an_index_of_another_kind_is_refused(make: Any, prune: Any, index: Tensor) -> None:
    with pytest.raises(InvalidShape, match=r"must be a vector of int64, got torch\..* of shape .*nonzero\(\)"):
        prune(make(), index)


@BOTH
@pytest.mark.parametrize("dim", [2, -1])
def test_another_dimension_is_refused(make: Any, prune: Any, dim: int) -> None:
    with pytest.raises(InvalidShape, match=f"dimension to prune must be 0 or 1, got {dim}"):
        prune(make(), KEPT, dim)


@pytest.mark.parametrize(
    ("prune", "layer", "text"),
    [
        (prune_linear_layer, Conv1D(4, 4), "must be a torch.nn.Linear, got Conv1D"),
        (prune_conv1d_layer, nn.Linear(4, 4), "must be a Conv1D with nf and nx, got Linear"),
        (prune_conv1d_layer, nn.Conv1d(4, 4, 1), "must be a Conv1D with nf and nx, got Conv1d"),
        (prune_layer, nn.Embedding(4, 4), "must be a torch.nn.Linear or a Conv1D, got Embedding"),
    ],
)
def test_other_layers_are_refused(prune: Callable[..., Any], layer: nn.Module, text: str) -> None:
    with pytest.raises(UnsupportedFeature, match=f"the layer to prune {text}"):
        prune(layer, KEPT)


class Adapted(nn.Linear):
    """A layer with an adapter, as LoRA's are."""

    def __init__(self) -> None:
        super().__init__(4, 4)
        self.adapter = nn.Linear(4, 4)
        self.register_buffer("steps", torch.zeros(1))


@pytest.mark.parametrize(
    ("layer", "extra"),
    [
        (Adapted(), r"\['adapter', 'adapter.bias', 'adapter.weight', 'steps'\]"),
        (parametrizations.weight_norm(nn.Linear(4, 4)), r"\['parametrizations', 'parametrizations.weight"),
    ],
)
def test_layers_that_hold_more_are_refused(layer: nn.Module, extra: str) -> None:
    with pytest.raises(
        UnsupportedFeature, match=rf"must hold a weight and a bias alone, got \w+ with {extra}.*adapters"
    ):
        prune_layer(layer, KEPT)


def test_a_layer_without_a_floating_weight_is_refused() -> None:
    quantized = nn.Linear(4, 4)
    quantized.weight = nn.Parameter(torch.ones(4, 4, dtype=torch.int8), requires_grad=False)
    for layer in (quantized, nn.LazyLinear(4)):
        with pytest.raises(UnsupportedFeature, match=r"must have a floating weight, got \w+ of torch\.\w+; initialise"):
            prune_layer(layer, KEPT)
