import collections
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.pytorch_utils import apply_chunking_to_forward as their_chunking

from headstock.errors import InvalidConfig, InvalidShape, UnsupportedFeature
from headstock.layers import apply_chunking_to_forward


def elementwise(x: Tensor, y: Tensor) -> Tensor:
    """Elementwise: its results do not depend on how the inputs are cut, to the last bit."""
    return x.sin() * y + x


@st.composite
def cuts(draw: st.DrawFn) -> tuple[list[int], int, int]:
    """A shape, a dimension of it from either end, and a chunk size."""
    shape = draw(st.lists(st.integers(0, 7), min_size=1, max_size=4))
    dim = draw(st.integers(-len(shape), len(shape) - 1))
    return shape, dim, draw(st.integers(0, 9))


@given(cuts())
@example(([2, 7, 3], 1, 3))
@example(([2, 0, 3], 1, 3))
@example(([1], -1, 1))
def test_equals_the_whole_call_and_its_gradients(cut: tuple[list[int], int, int]) -> None:
    shape, dim, size = cut
    x, y, grad = (torch.randn(shape) for _ in range(3))
    results = []
    for run in (elementwise, lambda *inputs: apply_chunking_to_forward(elementwise, size, dim, *inputs)):
        inputs = x.clone().requires_grad_(), y.clone().requires_grad_()
        result = run(*inputs)
        results.append((result, *torch.autograd.grad(result, inputs, grad)))
    for whole, chunked in zip(*results, strict=True):
        assert torch.equal(whole, chunked)


@given(cuts())
def test_no_chunk_is_longer_than_asked_for_and_together_they_are_the_input(cut: tuple[list[int], int, int]) -> None:
    shape, dim, size = cut
    seen = []

    def remember(x: Tensor) -> Tensor:
        seen.append(x)
        return x

    x = torch.randn(shape)
    apply_chunking_to_forward(remember, size, dim, x)
    assert torch.equal(torch.cat(seen, dim), x)
    if size:
        assert len(seen) == max(1, -(-shape[dim] // size))
        assert all(each.shape[dim] <= size for each in seen)


@pytest.mark.parametrize(("length", "size"), [(6, 2), (6, 6), (6, 0)])
def test_equals_transformers_where_the_length_is_a_multiple(length: int, size: int) -> None:
    layer = nn.Sequential(nn.Linear(4, 9), nn.GELU(), nn.Linear(9, 4)).double()
    x = torch.randn(2, length, 4, dtype=torch.float64)

    def feed_forward(hidden: Tensor) -> Tensor:
        done: Tensor = layer(hidden)
        return done

    assert torch.equal(apply_chunking_to_forward(feed_forward, size, 1, x), their_chunking(feed_forward, size, 1, x))


class Layer(nn.Module):
    """Called as a module and by its method."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(3))

    def forward(self, hidden: Tensor, shift: float = 0.5) -> Tensor:
        return hidden * self.scale + shift

    def with_arguments(self, *hidden: Tensor, power: int = 2) -> Tensor:
        return sum((each**power for each in hidden), torch.zeros(3)) * self.scale


LAYER = Layer()


def with_default(x: Tensor, y: Tensor, scale: float = 2.0) -> Tensor:
    return x * scale + y


def with_arguments(*tensors: Tensor) -> Tensor:
    return tensors[0] - tensors[1]


def with_keyword_default(x: Tensor, /, y: Tensor, *, scale: float = 3.0, **others: Any) -> Tensor:
    return x * scale - y + len(others)


CALLABLES: dict[str, Callable[..., Tensor]] = {
    "a default": with_default,
    "*args": with_arguments,
    "keyword-only defaults": with_keyword_default,
    "a bound method with *args": LAYER.with_arguments,
    "a partial": functools.partial(with_keyword_default, scale=5.0),
    "a builtin": torch.add,
    "a lambda": lambda x, y: x.exp() + y,
}


@pytest.mark.parametrize("kind", CALLABLES)
def test_takes_every_kind_of_callable(kind: str) -> None:
    function, x, y = CALLABLES[kind], torch.randn(2, 7, 3), torch.randn(2, 7, 3)
    assert torch.equal(apply_chunking_to_forward(function, 3, -2, x, y), function(x, y))


@pytest.mark.parametrize("function", [LAYER, LAYER.forward], ids=["module", "bound method"])
def test_takes_modules_and_bound_methods_with_defaults(function: Callable[..., Tensor]) -> None:
    x = torch.randn(2, 7, 3)
    assert torch.equal(apply_chunking_to_forward(function, 2, 1, x), function(x))


def test_parameters_of_the_function_get_their_gradients() -> None:
    layer = Layer().double()
    x, grad = (torch.randn(2, 7, 3, dtype=torch.float64) for _ in range(2))
    (whole,) = torch.autograd.grad(layer(x), layer.scale, grad)
    (chunked,) = torch.autograd.grad(apply_chunking_to_forward(layer, 3, 1, x), layer.scale, grad)
    # A sum of 14 products in another order: twice gamma_14 times the sum of their sizes (Higham, eq. 3.5).
    bound = 2 * 14 * torch.finfo(torch.float64).eps * (x * grad).abs().sum((0, 1))
    assert bool(((whole - chunked).abs() <= bound).all())


class Pair(NamedTuple):
    first: Tensor
    second: Tensor | None


class Box(dict[str, Tensor]):
    """A dict with something besides its entries."""

    label = "none"


def labelled(x: Tensor) -> Box:
    box = Box(x=x * 2)
    box.label = "kept"
    return box


STRUCTURES: dict[str, Callable[[Tensor], Any]] = {
    "tuple": lambda x: (x.sin(), x.cos()),
    "list": lambda x: [x.sin(), None],
    "named tuple": lambda x: Pair(x.sin(), None),
    "dict": lambda x: {"sin": x.sin(), "none": None},
    "nested": lambda x: (x, {"inner": [Pair(x.cos(), x)]}),
    "ordered dict": lambda x: collections.OrderedDict(b=x, a=x * 2),
    "default dict": lambda x: collections.defaultdict(list, a=x * 2),
    "model output": lambda x: BaseModelOutputWithPooling(last_hidden_state=x.sin(), hidden_states=(x, x.cos())),
    "none": lambda x: None,
}


def leaves(result: Any) -> list[Any]:
    if isinstance(result, dict):
        return [(key, leaf) for key, each in result.items() for leaf in leaves(each)]
    if isinstance(result, tuple | list):
        return [leaf for each in result for leaf in leaves(each)]
    return [None if result is None else result.tolist()]


@pytest.mark.parametrize("kind", STRUCTURES)
def test_results_keep_their_structure(kind: str) -> None:
    x = torch.randn(2, 7, 3)
    whole, chunked = STRUCTURES[kind](x), apply_chunking_to_forward(STRUCTURES[kind], 3, 1, x)
    assert type(chunked) is type(whole)
    assert leaves(chunked) == leaves(whole)


def test_what_a_dict_holds_besides_its_entries_is_kept() -> None:
    x = torch.randn(2, 7, 3)
    joined = apply_chunking_to_forward(labelled, 3, 1, x)
    assert joined.label == "kept"
    assert torch.equal(joined["x"], x * 2)


def test_attributes_of_a_model_output_are_joined_like_its_entries() -> None:
    x = torch.randn(2, 7, 3)
    joined = apply_chunking_to_forward(STRUCTURES["model output"], 3, 1, x)
    assert torch.equal(joined.last_hidden_state, x.sin())
    assert torch.equal(joined.hidden_states[1], x.cos())
    assert joined.pooler_output is None


def test_inputs_that_are_none_reach_every_chunk() -> None:
    x = torch.randn(2, 7, 3)
    result = apply_chunking_to_forward(lambda a, b, c: a + c if b is None else b, 3, 1, x, None, x)
    assert torch.equal(result, x + x)


def test_a_negative_dimension_is_counted_from_each_tensors_own_end() -> None:
    x, y = torch.randn(2, 4, 7, 3), torch.randn(7, 3)
    assert torch.equal(apply_chunking_to_forward(elementwise, 2, -2, x, y), elementwise(x, y))


def test_one_chunk_may_be_reduced() -> None:
    x = torch.randn(2, 5, 3)
    assert torch.equal(apply_chunking_to_forward(lambda a: a.mean(1), 5, 1, x), x.mean(1))


def test_compiles_in_one_graph() -> None:
    layer = Layer()

    def run(x: Tensor) -> Pair:
        return apply_chunking_to_forward(lambda a: Pair(layer(a), a.sin()), 3, 1, x)

    x = torch.randn(2, 7, 3)
    joined = torch.compile(run, fullgraph=True, backend="aot_eager")(x)
    assert isinstance(joined, Pair)
    assert leaves(joined) == leaves(Pair(layer(x), x.sin()))


def test_compiles_in_one_graph_with_dicts_and_bound_methods() -> None:
    layer = Layer()

    def run(x: Tensor) -> Tensor:
        done: dict[str, Tensor] = apply_chunking_to_forward(lambda a: {"x": layer.with_arguments(a, a)}, 3, -2, x)
        return done["x"]

    x = torch.randn(2, 7, 3)
    assert torch.equal(torch.compile(run, fullgraph=True, backend="aot_eager")(x), layer.with_arguments(x, x))


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="chunk size must be 0 or more, got -2; 0 switches chunking off"):
        apply_chunking_to_forward(torch.relu, -2, 0, torch.randn(3))


@pytest.mark.parametrize("inputs", [(), (None,)], ids=["nothing", "None"])
@pytest.mark.parametrize("size", [0, 2])
def test_no_tensor_is_refused(size: int, inputs: tuple[None, ...]) -> None:
    with pytest.raises(InvalidShape, match="must hold at least one tensor, got "):
        apply_chunking_to_forward(torch.relu, size, 0, *inputs)


def test_other_inputs_are_refused() -> None:
    with pytest.raises(InvalidShape, match=r"must be tensors or None, got 3; bind other arguments with functools"):
        apply_chunking_to_forward(elementwise, 2, 0, torch.randn(3), 3)  # type: ignore[arg-type]  # what is refused


@pytest.mark.parametrize(("shape", "dim"), [((2, 3), 2), ((2, 3), -3), ((), 0)])
def test_a_missing_dimension_is_refused(shape: tuple[int, ...], dim: int) -> None:
    with pytest.raises(InvalidShape, match=rf"every input must have the chunked dimension {dim}, got the shape \("):
        apply_chunking_to_forward(torch.relu, 2, dim, torch.randn(shape))


def test_different_lengths_are_refused() -> None:
    with pytest.raises(InvalidShape, match=r"same length along dimension 1, got \[4, 5\]"):
        apply_chunking_to_forward(elementwise, 2, 1, torch.randn(2, 4), torch.randn(2, 5))


@pytest.mark.parametrize("size", [0, 2])
@pytest.mark.parametrize(
    ("function", "count"), [(elementwise, 1), (elementwise, 3), (lambda x, *, flag: x, 1), (LAYER, 3)]
)
def test_a_wrong_number_of_inputs_is_refused(function: Callable[..., Any], count: int, size: int) -> None:
    with pytest.raises(InvalidShape, match=rf"arguments of the chunked function, got {count} for \(.*; bind others"):
        apply_chunking_to_forward(function, size, 0, *(torch.randn(3) for _ in range(count)))


@pytest.mark.parametrize("function", [lambda x: x + "text", lambda x: x.add()])
def test_a_type_error_inside_the_function_is_left_alone(function: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(TypeError, match=r"unsupported operand|add\(\)") as caught:
        apply_chunking_to_forward(function, 2, 0, torch.randn(3))
    assert not isinstance(caught.value, InvalidShape)


def test_a_type_error_of_a_compiled_function_is_left_alone() -> None:
    with pytest.raises(TypeError, match=r"add\(\)"):
        apply_chunking_to_forward(torch.add, 2, 0, torch.randn(3))


@pytest.mark.parametrize(
    "function", [lambda x: x.sum(), lambda x: x.mean(1), lambda x: x.sum(1, keepdim=True), lambda x: x.repeat(1, 2, 1)]
)
def test_results_that_lose_their_length_are_refused(function: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(InvalidShape, match=r"must keep its length 3 along dimension 1, got the shape \(.*chunk_size=0"):
        apply_chunking_to_forward(function, 3, 1, torch.randn(2, 7, 4))


def changing(*results: Any) -> Callable[[Tensor], Any]:
    left = iter(results)
    return lambda x: next(left)


X = torch.randn(2)


@pytest.mark.parametrize(
    "results", [((X, X), (X,)), ((X,), [X]), (None, X), ({"a": X}, {"b": X}), ({"a": X}, {"a": X, "b": X})]
)
def test_results_of_different_form_are_refused(results: tuple[Any, Any]) -> None:
    with pytest.raises(InvalidShape, match=r"results of all chunks must have one form, got \[\('"):
        apply_chunking_to_forward(changing(*results), 2, 0, torch.randn(4))


@pytest.mark.parametrize("leaf", [3, "text", {1, 2}])
def test_results_that_cannot_be_joined_are_refused(leaf: object) -> None:
    with pytest.raises(
        UnsupportedFeature, match=r"must consist of tensors, None, tuples, lists and dicts, got .*chunk_size=0"
    ):
        apply_chunking_to_forward(lambda x: (x, leaf), 2, 0, torch.randn(4))
