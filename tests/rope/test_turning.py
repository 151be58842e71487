"""The forms of the arithmetic agree, derivatives of every order are right, and compiled code is one graph."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import grad, jvp, vmap

from headstock.rope import apply_rotary_pos_emb, rotate, turning
from tests.support.rotation import SHAPES, angles, by_matrices, in_layout

FORMS: list[dict[str, Any]] = [
    {"interleaved": interleaved, "rotary": rotary} for interleaved in (False, True) for rotary in ("prefix", "suffix")
]
IDS = [f"{'interleaved' if form['interleaved'] else 'half-split'} {form['rotary']}" for form in FORMS]
every_form = pytest.mark.parametrize("form", FORMS, ids=IDS)
# torch 2.13 scripts its own formulas of forward mode when they are first used.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


def sample(rest: int = 0, tokens: int = 3, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    cos, sin = angles(2, tokens, 2, dtype)
    return torch.randn(2, 3, tokens, 4 + rest, dtype=dtype), cos, sin


def wanted(x: Tensor, cos: Tensor, sin: Tensor, form: dict[str, Any]) -> Tensor:
    return by_matrices(x, cos, sin, interleaved=form["interleaved"], suffix=form["rotary"] == "suffix")


@pytest.fixture(params=["one block", "tiny blocks", "shared blocks", "rolled"])
def limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes that make small tensors take each path."""
    shared = request.param == "shared blocks"
    monkeypatch.setattr(turning, "FEW", 2**14 if request.param == "rolled" else 0)
    monkeypatch.setattr(turning, "BLOCK", 10 if shared or request.param == "tiny blocks" else 2**18)
    monkeypatch.setattr(turning, "SHARED_BLOCK", 20)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2 if shared else 1)


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize("place", ["contiguous", "transposed", "odd offset"])
@pytest.mark.parametrize("rest", [0, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@every_form
def test_every_path_is_the_definition(form: dict[str, Any], dtype: torch.dtype, rest: int, place: str) -> None:
    x, cos, sin = sample(rest, tokens=7, dtype=dtype)
    x = in_layout(x, place)
    # A product and a product with a sum, of numbers up to 5, and one rounding to the dtype.
    limit: dict[str, Any] = {"rtol": 0.0, "atol": 40 * torch.finfo(dtype).eps}
    torch.testing.assert_close(rotate(x, cos, sin, **form).double(), wanted(x, cos, sin, form), **limit)


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize("unsqueeze_dim", [1, 2])
def test_blocks_follow_the_tokens(unsqueeze_dim: int) -> None:
    x, cos, sin = sample(tokens=7)
    given_ = x if unsqueeze_dim == 1 else x.transpose(1, 2)
    found = rotate(given_, cos[:1], sin[:1], unsqueeze_dim=unsqueeze_dim)
    torch.testing.assert_close(found if unsqueeze_dim == 1 else found.transpose(1, 2), by_matrices(x, cos[:1], sin[:1]))


@given(SHAPES)
def test_one_position_is_rotated_as_among_others(shape: tuple[int, ...]) -> None:
    rows, heads, tokens, half, rest = shape
    x = torch.randn(rows, heads, tokens + 1, 2 * half + rest)
    cos, sin = angles(max(rows, 1), tokens + 1, half, torch.float32)
    last = [each[..., -1:, :] for each in (x, cos, sin)]
    for interleaved in (False, True):
        whole = rotate(x, cos[: rows or 1], sin[: rows or 1], interleaved=interleaved)
        alone = rotate(last[0], last[1][: rows or 1], last[2][: rows or 1], interleaved=interleaved)
        # A kernel may contract a product and a sum into one rounding, or not: one rounding of a product apart.
        torch.testing.assert_close(whole[..., -1:, :], alone, rtol=0, atol=10 * torch.finfo(torch.float32).eps)


@pytest.mark.parametrize("tokens", [1, 5000])
def test_results_lie_in_memory_as_what_was_rotated(tokens: int) -> None:
    x, (cos, sin) = torch.randn(1, tokens, 3, 32).transpose(1, 2), angles(1, tokens, 16, torch.float32)
    assert rotate(x, cos, sin).transpose(1, 2).is_contiguous()
    assert rotate(x.contiguous(), cos, sin).is_contiguous()
    assert rotate(x[:, :1].expand(1, 3, tokens, 32), cos, sin).is_contiguous()


@pytest.mark.parametrize("tokens", [1, 5000])
@every_form
def test_nothing_that_is_given_is_written(form: dict[str, Any], tokens: int) -> None:
    x, cos, sin = sample(1, tokens, torch.float32)
    before = [each.clone() for each in (x, cos, sin)]
    rotate(x, cos, sin, **form).zero_()
    assert all(each.equal(old) for each, old in zip((x, cos, sin), before, strict=True))


@pytest.mark.parametrize("rest", [0, 1])
@every_form
def test_first_and_second_derivatives_are_those_of_differences(form: dict[str, Any], rest: int) -> None:
    for learned in (False, True):
        leaves = [each.clone().requires_grad_(learned or place == 0) for place, each in enumerate(sample(rest))]
        assert torch.autograd.gradcheck(lambda *each: rotate(*each, **form), leaves)
        assert torch.autograd.gradgradcheck(lambda *each: rotate(*each, **form), leaves)


@pytest.mark.usefixtures("limits")
@every_form
def test_gradients_in_other_places_of_memory(form: dict[str, Any]) -> None:
    x, cos, sin = sample(1, tokens=7)
    x = x.transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
    upstream = torch.randn(2, 7, 3, 5, dtype=torch.float64).transpose(1, 2)
    (found,) = torch.autograd.grad(rotate(x, cos, sin, **form), x, upstream)
    (exact,) = torch.autograd.grad(wanted(x, cos, sin, form), x, upstream)
    torch.testing.assert_close(found, exact)


def test_halves_of_angles_that_differ_have_the_right_gradient() -> None:
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    cos, sin = torch.randn(2, 1, 3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: rotate(x, cos, sin), [x])


def test_queries_alone_may_require_a_gradient() -> None:
    x, cos, sin = sample()
    query, key = x.clone().requires_grad_(), x
    rotated = apply_rotary_pos_emb(query, key, cos, sin)
    rotated[0].sum().backward()
    assert query.grad is not None
    torch.testing.assert_close(query.grad, by_matrices(torch.ones_like(x), cos, -sin))
    torch.testing.assert_close(rotated[1], rotated[0].detach())


@every_form
def test_gradients_in_low_precision_are_rounded_once(form: dict[str, Any]) -> None:
    x, cos, sin = sample(1, dtype=torch.bfloat16)
    upstream = torch.randn(x.shape, dtype=torch.bfloat16)
    (found,) = torch.autograd.grad(rotate(x.requires_grad_(), cos, sin, **form), x, upstream)
    opposite = wanted(upstream, cos, -sin, form)
    torch.testing.assert_close(found.double(), opposite, rtol=torch.finfo(torch.bfloat16).eps / 2, atol=1e-6)


@pytest.mark.parametrize("no_grad", [torch.no_grad, torch.inference_mode])
def test_no_graph_where_nothing_requires_a_gradient(no_grad: Any) -> None:
    x, cos, sin = sample()
    assert not rotate(x, cos, sin).requires_grad
    with no_grad():
        assert rotate(x.clone().requires_grad_(), cos, sin).grad_fn is None
    # What was made in inference mode must not be found by later calls.
    assert torch.autograd.gradcheck(lambda x: rotate(x, cos, sin), [x.clone().requires_grad_()])


def test_nothing_of_the_size_of_the_queries_is_kept() -> None:
    x, cos, sin = sample(tokens=9)
    kept: list[Tensor] = []

    def keep(each: Tensor) -> Tensor:
        kept.append(each)
        return each

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda each: each):
        rotate(x.requires_grad_(), cos, sin)
    assert [each.numel() for each in kept] == [cos.numel(), sin.numel()]


@every_form
def test_transformations_of_functions(form: dict[str, Any]) -> None:
    x, cos, sin = sample(1)
    upstream = torch.randn_like(x)

    def loss(x: Tensor) -> Tensor:
        return (rotate(x, cos, sin, **form) * upstream).sum()

    exact = wanted(upstream, cos, -sin, form)
    torch.testing.assert_close(grad(loss)(x), exact)
    tangent = jvp(lambda x: rotate(x, cos, sin, **form), (x,), (upstream,))[1]
    torch.testing.assert_close(tangent, wanted(upstream, cos, sin, form))
    stacked = torch.stack((x, 2 * x))
    torch.testing.assert_close(vmap(lambda x: rotate(x, cos, sin, **form))(stacked)[1], 2 * wanted(x, cos, sin, form))
    torch.testing.assert_close(vmap(grad(loss))(stacked), torch.stack((exact, exact)))


@every_form
def test_batches_of_gradients_and_forward_mode(form: dict[str, Any]) -> None:
    x, cos, sin = sample(1)
    leaf, upstream = x.clone().requires_grad_(), torch.randn(2, *x.shape, dtype=torch.float64)
    rotated = rotate(leaf, cos, sin, **form)
    (found,) = torch.autograd.grad(rotated, leaf, upstream, is_grads_batched=True)
    torch.testing.assert_close(found[1], wanted(upstream[1], cos, -sin, form))
    with forward_ad.dual_level():
        dual = rotate(forward_ad.make_dual(x, upstream[0]), cos, sin, **form)
        tangent = forward_ad.unpack_dual(dual).tangent
    torch.testing.assert_close(tangent, wanted(upstream[0], cos, sin, form))


@every_form
def test_compiled_code_is_one_graph_for_all_lengths(form: dict[str, Any]) -> None:
    counter = CompileCounterWithBackend("aot_eager")

    def step(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return rotate(x, cos, sin, **form)

    compiled = torch.compile(step, backend=counter, fullgraph=True, dynamic=True)
    for tokens in (9, 7, 20, 6):  # and no two axes of one size, which dynamo takes for one axis
        x, cos, sin = sample(1, tokens)
        found = compiled(x.requires_grad_(), cos, sin)
        torch.testing.assert_close(found, wanted(x, cos, sin, form))
        upstream = torch.randn_like(x)
        (gradient,) = torch.autograd.grad(found, x, upstream)
        torch.testing.assert_close(gradient, wanted(upstream, cos, -sin, form))
    assert counter.frame_count == 1


def test_compiled_queries_and_keys_in_low_precision() -> None:
    q, cos, sin = sample(dtype=torch.bfloat16)
    compiled: Callable[..., Any] = torch.compile(apply_rotary_pos_emb, backend="aot_eager", fullgraph=True)
    for found, eager in zip(compiled(q, q[:, :1], cos, sin), apply_rotary_pos_emb(q, q[:, :1], cos, sin), strict=True):
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found, eager, rtol=torch.finfo(torch.bfloat16).eps, atol=1e-6)


def test_tensors_without_data() -> None:
    with FakeTensorMode():
        assert rotate(torch.empty(2, 3, 5, 8), torch.empty(1, 5, 8), torch.empty(1, 5, 8)).shape == (2, 3, 5, 8)
    made = rotate(*(torch.empty(each, device="meta") for each in ((2, 3, 5, 8), (1, 5, 8), (1, 5, 8))))
    assert (made.shape, made.is_meta) == ((2, 3, 5, 8), True)


@pytest.mark.parametrize("tokens", [1, 700])
def test_autocast_changes_nothing(tokens: int) -> None:
    x, cos, sin = sample(1, tokens, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = rotate(x, cos, sin)
    assert found.equal(rotate(x, cos, sin))


def test_what_is_not_a_number_stays_in_its_pair() -> None:
    x, cos, sin = sample(dtype=torch.float32)
    x[..., 0] = torch.inf
    for interleaved, other in ((False, 2), (True, 1)):
        found = rotate(x, cos, sin, interleaved=interleaved)
        finite = [place for place in range(4) if place not in {0, other}]
        assert found[..., finite].isfinite().all()
        assert not found[..., [0, other]].isfinite().any()
