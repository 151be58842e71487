"""flex_attention on the CPU: equal to its definition in float64, compiled once for all lengths, masks and numbers."""

import re
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask

from headstock import attend
from headstock.attention import alibi, alibi_slopes
from headstock.attention.contract import contract_of
from headstock.attention.flex import flex_attention, flex_attention_core
from headstock.attention.request import Request
from headstock.attention.situation import Situation
from headstock.errors import UnsupportedFeature
from headstock.masks import BlockMaskOrTiles, Mask, bidirectional, causal, documents, sliding_window
from tests.support.flex import assert_is_attention, graphs
from tests.support.no_work import NoTensorWork

# Inductor imports a module of torch that warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")

HEADS, KV_HEADS = 4, 2
LENGTHS = [*range(1, 8), 31, 64, 100, 127, 128, 129, 200, 255, 256, 257, 300, 385, 512]


def _operands(
    queries: int, keys: int, *, batch: int = 2, dims: tuple[int, int] = (24, 24), dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.randn(batch, HEADS, queries, dims[0]).to(dtype),
        torch.randn(batch, KV_HEADS, keys, dims[0]).to(dtype),
        torch.randn(batch, KV_HEADS, keys, dims[1]).to(dtype),
    )


def _flex(operands: tuple[Tensor, Tensor, Tensor], **keywords: Any) -> None:
    found = attend(*operands, implementation="flex_attention", **keywords)
    assert_is_attention(found, *operands, **keywords)


def _masks(queries: int, keys: int) -> dict[str, Any]:
    """Masks of one kind: they tell neither rows nor heads apart."""
    return {
        "none": None,
        "causal": causal(),
        "window": causal() & sliding_window(40),
        "nothing": ~bidirectional(),
        "later half": Mask(lambda b, h, i, j: j * 2 >= keys),
        "triangles": ~causal() | sliding_window(3),
    }


def test_twenty_lengths_of_any_mask_and_number_are_one_program() -> None:
    before = graphs()
    for number, queries in enumerate(LENGTHS):
        keys = LENGTHS[(number * 7) % 20]
        name = sorted(_masks(1, 1))[number % 6]
        _flex(_operands(queries, keys), mask=_masks(queries, keys)[name], scaling=[0.2, -0.3, 0.0][number % 3])
    assert graphs() == before + 1


@settings(max_examples=25)
@given(
    queries=st.integers(1, 300),
    keys=st.integers(1, 300),
    name=st.sampled_from(sorted(_masks(1, 1))),
    softcap=st.sampled_from([0.5, 30.0]),
    form=st.sampled_from(["all", "by key", "alibi"]),
)
@example(queries=1, keys=256, name="causal", softcap=0.5, form="alibi")
@example(queries=256, keys=128, name="nothing", softcap=30.0, form="by key")
def test_softcap_bias_and_sinks_of_every_shape_are_one_program(
    queries: int, keys: int, name: str, softcap: float, form: str
) -> None:
    bias = {
        "all": torch.randn(2, HEADS, queries, keys),
        "by key": torch.randn(1, 1, keys),
        "alibi": alibi(alibi_slopes(HEADS)),
    }[form]
    _flex(
        _operands(queries, keys, dims=(7, 19)),
        mask=_masks(queries, keys)[name],
        softcap=softcap,
        sinks=torch.randn(HEADS),
        bias=bias,
    )


def test_layouts_and_views_are_no_kinds_of_their_own() -> None:
    before = graphs()
    for queries in (40, 50):
        query = torch.randn(2, queries, HEADS, 24).transpose(1, 2)
        key, value = torch.randn(2, 2, KV_HEADS, 60, 48)[..., ::2]
        _flex((query, key, value), mask=causal())
        _flex((query[:, :, 1:].contiguous()[:, :, 1:], key, value.clone()), mask=causal())
    assert graphs() == before + 1


def test_a_block_mask_decides_by_its_blocks() -> None:
    def seen(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (i >= j) & (i - j < 40)

    operands = _operands(200, 200)
    mask = create_block_mask(seen, None, None, 200, 200, device="cpu")
    found = attend(*operands, mask=mask, implementation="flex_attention")
    assert_is_attention(found, *operands, mask=causal() & sliding_window(40))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("batch", [1, 3])
def test_half_precision(dtype: torch.dtype, batch: int) -> None:
    for queries, keys in ((130, 140), (1, 300), (64, 65)):
        _flex(_operands(queries, keys, batch=batch, dtype=dtype), mask=causal(), sinks=torch.randn(HEADS))


@pytest.mark.slow
@pytest.mark.parametrize("mask", ["rows", "heads", "both", "float"])
def test_masks_that_tell_rows_and_heads_apart(mask: str) -> None:
    ids = torch.arange(170).div(torch.tensor([[40], [70]]), rounding_mode="floor")
    given: Any = {
        "rows": documents(ids) & causal(),
        "heads": Mask(lambda b, h, i, j: (i + h) % 3 != j % 3),
        "both": torch.rand(2, HEADS, 150, 170) < 0.3,
        "float": torch.randn(2, 1, 150, 170).masked_fill(torch.rand(2, 1, 150, 170) < 0.5, -torch.inf),
    }[mask]
    operands = _operands(150, 170)
    found = attend(*operands, mask=given, implementation="flex_attention")
    if isinstance(given, Tensor) and given.is_floating_point():
        assert_is_attention(found, *operands, mask=given > -torch.inf, bias=given.masked_fill(given == -torch.inf, 0.0))
    else:
        assert_is_attention(found, *operands, mask=given)


@pytest.mark.slow
@pytest.mark.parametrize("head_dims", [(1, 1), (8, 8), (64, 32), (33, 130), (256, 256)])
def test_head_sizes(head_dims: tuple[int, int]) -> None:
    _flex(_operands(130, 140, dims=head_dims), mask=causal())


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_no_query_and_no_key_give_zeros(shape: tuple[int, int]) -> None:
    found = attend(*_operands(*shape), implementation="flex_attention", sinks=torch.randn(HEADS))
    assert torch.equal(found, torch.zeros(2, HEADS, shape[0], 24))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"return_lse": True}, "gives no log-sum-exp on cpu"),
        ({"return_weights": True}, "does not honour weights"),
        ({"dropout": 0.1}, "does not honour dropout"),
        ({"sinks": torch.randn(HEADS, requires_grad=True)}, r"has no gradients on cpu \(only on cuda\)"),
        ({"bias": torch.randn(3, requires_grad=True)}, r"has no gradients on cpu \(only on cuda\)"),
        ({"bias": alibi(torch.randn(HEADS, requires_grad=True))}, r"has no gradients on cpu \(only on cuda\)"),
    ],
)
def test_what_it_cannot_do_on_the_cpu_is_refused_before_any_work(options: dict[str, Any], reason: str) -> None:
    operands = _operands(3, 3)
    with NoTensorWork(), pytest.raises(UnsupportedFeature, match=f"'flex_attention', which {reason}.*'eager' honours"):
        attend(*operands, implementation="flex_attention", **options)


def test_gradients_of_the_operands_are_refused_on_the_cpu() -> None:
    query, key, value = _operands(3, 3)
    with pytest.raises(UnsupportedFeature, match=r"has no gradients on cpu \(only on cuda\)"):
        attend(query, key.requires_grad_(), value, implementation="flex_attention")
    with pytest.raises(UnsupportedFeature, match="does not take float64"):
        attend(query.double(), key.double().detach(), value.double(), implementation="flex_attention")


def test_a_float_mask_that_requires_a_gradient_is_refused() -> None:
    mask = torch.randn(3, 3, requires_grad=True)
    with pytest.raises(UnsupportedFeature, match=r"has no gradients on cpu \(only on cuda\)"):
        attend(*_operands(3, 3), mask=mask, implementation="flex_attention")


def test_the_core_refuses_what_the_table_would() -> None:
    operands = _operands(3, 3)
    with pytest.raises(UnsupportedFeature, match=r"must be called without dropout, got 0.1; use the imp"):
        flex_attention_core(*operands, scaling=1.0, dropout=0.1)
    with pytest.raises(UnsupportedFeature, match="must be called without the log-sum-exp, which torch gives on CUDA"):
        flex_attention_core(*operands, BlockMaskOrTiles(None, None), scaling=1.0, log_sum_exp=True)
    operands[0].requires_grad_()
    with pytest.raises(UnsupportedFeature, match="must be called without gradients, which torch has on CUDA"):
        flex_attention_core(*operands, scaling=1.0)


@pytest.mark.parametrize(
    ("sizes", "packages", "reason"),
    [
        ((512, 64), ("triton",), r"takes head sizes up to 256 on cuda \(got 512 and 64\)"),
        ((64, 300), ("triton",), r"takes head sizes up to 256 on cuda \(got 64 and 300\)"),
        ((64, 64), (), "needs triton on cuda"),
    ],
)
def test_what_it_cannot_do_on_a_cuda_device_is_known_before(
    sizes: tuple[int, int], packages: tuple[str, ...], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if name in packages else None)
    situation = Situation(torch.device("cuda"), torch.bfloat16, 1, 4, 2, 3, 3, *sizes, needs_gradient=True)
    further = contract_of(flex_attention).limits.further
    assert further is not None
    assert [re.fullmatch(reason, each) is not None for each in further(situation, Request(1.0))] == [True]


def test_on_a_cuda_device_gradients_and_the_log_sum_exp_are_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: (9, 0))
    situation = Situation(torch.device("cuda"), torch.bfloat16, 1, 4, 2, 3, 3, 8, 256, needs_gradient=True)
    request = Request(1.0, log_sum_exp=True, sinks=torch.randn(4, requires_grad=True))
    assert list(contract_of(flex_attention).limits.reasons_against(situation, request)) == []


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UnsupportedFeature, match=r"needs a C\+\+ compiler \(g\+\+, or the one that CXX names\)"):
        attend(*_operands(3, 3), implementation="flex_attention")


def test_with_compilation_switched_off_it_says_so() -> None:
    with (
        torch.compiler.set_stance("force_eager"),
        pytest.raises(UnsupportedFeature, match=r"flex_attention must be compiled, got compilation switched off"),
    ):
        attend(*_operands(3, 3), implementation="flex_attention")
