"""A function of positions and lengths: equal to transformers', row by row, in threads, compiled, and after any move."""

import copy
import io
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from headstock.errors import InvalidConfig, InvalidShape, UnknownName
from headstock.registry import declare
from headstock.rope import ROPE_INIT_FUNCTIONS, ROPE_VARIANTS, RopeInterface, RopeParameters, RotaryEmbedding
from tests.support.rotary import CONSTANT, GROWING, LENGTH, growing, grows_by_row, of_half, positions, rotary_config

VARIANTS = [*CONSTANT, *GROWING]
X = torch.empty(0)
every_variant = pytest.mark.parametrize("rope_type", VARIANTS)


def rotary(rope_type: str, **keywords: Any) -> RotaryEmbedding:
    return RotaryEmbedding(rotary_config(rope_type), **keywords)


@every_variant
@pytest.mark.parametrize("length", [1, 5, LENGTH, LENGTH + 1, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cosines_and_sines_are_those_of_transformers(rope_type: str, length: int, dtype: torch.dtype) -> None:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = rotary_config(rope_type)
    theirs = LlamaRotaryEmbedding(LlamaConfig(hidden_size=16, num_attention_heads=2, **config))
    x = X.to(dtype)
    found, wanted = rotary(rope_type)(x, positions(length)), theirs(x, positions(length))
    # Frequencies agree to 1e-6, and angles up to 300 turn by it; the bfloat16 of two near numbers may be neighbours.
    limit = 300 * 1e-6 if dtype == torch.float32 else torch.finfo(dtype).eps
    for ours, other in zip(found, wanted, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, other, rtol=0, atol=limit)


@given(st.sampled_from(VARIANTS), st.lists(st.integers(1, 3 * LENGTH), min_size=1, max_size=4))
@example("dynamic", [LENGTH, LENGTH + 1])
@example("longrope", [LENGTH + 1, LENGTH])
def test_a_row_does_not_depend_on_the_others(rope_type: str, lengths: list[int]) -> None:
    module, given_ = rotary(rope_type), positions(*lengths)
    cos, sin = module(X, given_)
    for row in range(len(lengths)):
        alone = module(X, given_[row : row + 1])
        # The kernels of powers, cosines and sines may differ by a rounding with the place in memory; angles reach 48.
        for together, single in zip((cos, sin), alone, strict=True):
            torch.testing.assert_close(together[row : row + 1], single, rtol=0, atol=48 * 4 * torch.finfo(X.dtype).eps)


@given(st.sampled_from(list(GROWING)), st.lists(st.integers(1, 3 * LENGTH), min_size=1, max_size=5))
def test_a_call_does_not_depend_on_calls_before(rope_type: str, lengths: list[int]) -> None:
    module = rotary(rope_type)
    for length in lengths:
        for found, fresh in zip(module(X, positions(length)), rotary(rope_type)(X, positions(length)), strict=True):
            assert found.equal(fresh)


@pytest.mark.parametrize("rope_type", GROWING)
@pytest.mark.parametrize("seq_len", [40, torch.tensor(40), torch.tensor([40]), torch.tensor([40, 40])])
def test_a_given_length_serves_every_step(rope_type: str, seq_len: int | Tensor) -> None:
    module, whole = rotary(rope_type), positions(40, 40)
    wanted = module(X, whole)
    step = module(X, whole[:, 3:5], seq_len=seq_len)
    for one, all_ in zip(step, wanted, strict=True):
        torch.testing.assert_close(one, all_[:, 3:5])
    assert not torch.allclose(module(X, whole[:, 3:5])[0], step[0])


def test_a_length_per_row() -> None:
    module = rotary("dynamic")
    cos, _ = module(X, positions(5, 5), seq_len=torch.tensor([5, 40]))
    torch.testing.assert_close(cos[:1], module(X, positions(5))[0])
    torch.testing.assert_close(cos[1:], module(X, positions(5), seq_len=40)[0])


@pytest.mark.parametrize("function", [growing, grows_by_row])
def test_variants_of_a_user_are_computed_per_row(function: Any) -> None:
    interface = RopeInterface()
    interface["mine"] = function
    module = rotary("mine", interface=interface)
    cos, sin = module(X, positions(4, 2, 4))
    angles = positions(4, 2, 4)[..., None] / torch.tensor([4.0, 2.0, 4.0])[:, None, None]
    factor = 1 / torch.tensor([4.0, 2.0, 4.0])[:, None, None]
    torch.testing.assert_close(cos, (angles.cos() * factor).expand(-1, -1, 8))
    torch.testing.assert_close(sin, (angles.sin() * factor).expand(-1, -1, 8))
    for together, alone in zip(module(X, positions(4), seq_len=8), module(X, positions(8)), strict=True):
        torch.testing.assert_close(together, alone[:, :4])


def test_positions_on_several_axes() -> None:
    module = rotary("default")
    by_axis = RotaryEmbedding(rotary_config("default", mrope_section=[2, 1, 1]))
    given_ = torch.randint(0, 9, (3, 2, 5))
    cos, _ = by_axis(X, given_)
    for axis, places in enumerate(([0, 1], [2], [3])):
        torch.testing.assert_close(cos[..., places], module(X, given_[axis])[0][..., places])
    torch.testing.assert_close(by_axis(X, given_[0])[0], module(X, given_[0])[0])
    stretched = RotaryEmbedding(rotary_config("dynamic", mrope_section=[2, 1, 1]))
    far = torch.stack([positions(5), positions(5) + 30, positions(5)])
    torch.testing.assert_close(stretched(X, far)[0], stretched(X, far, seq_len=35)[0])


def test_positions_on_a_grid() -> None:
    module = RotaryEmbedding({"head_dim": 8, "rope_parameters": {"rope_type": "axial", "rope_theta": 100.0}})
    cos, sin = module(X, torch.tensor([[[1, 2]], [[3, 4]]]))
    angles = torch.tensor([[[1.0, 0.1, 3.0, 0.3], [2.0, 0.2, 4.0, 0.4]]]).repeat(1, 1, 2)
    torch.testing.assert_close((cos, sin), (angles.cos(), angles.sin()))


def test_each_kind_of_layer_has_its_own() -> None:
    own = {kind: rotary_config(name)["rope_parameters"] for kind, name in (("full", "dynamic"), ("local", "default"))}
    config = rotary_config("default") | {"rope_parameters": own, "layer_types": ["full", "local"]}
    for kind, name in (("full", "dynamic"), ("local", "default")):
        module = RotaryEmbedding(config, layer_type=kind)
        torch.testing.assert_close(module(X, positions(40)), rotary(name)(X, positions(40)))
    assert "layer_type='full'" in repr(RotaryEmbedding(config, layer_type="full"))
    with pytest.raises(InvalidConfig):
        RotaryEmbedding(config | {"rope_parameters": own | {"local": None}}, layer_type="local")


def test_parameters_are_a_configuration() -> None:
    parameters = RopeParameters.from_config(rotary_config("yarn"))
    module = RotaryEmbedding(parameters)
    assert module.rope_parameters == parameters
    torch.testing.assert_close(module(X, positions(9)), rotary("yarn")(X, positions(9)))
    local = RopeInterface()
    local["yarn"] = of_half
    assert RotaryEmbedding(parameters, interface=local)(X, positions(1))[0].eq(2.0).all()


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(UnknownName, match=r"rope_type must be one of .*got 'defualt'"):
        rotary("defualt")


@every_variant
def test_no_positions(rope_type: str) -> None:
    for shape in ((2, 0), (0, 3)):
        cos, sin = rotary(rope_type)(X, torch.zeros(shape, dtype=torch.int64))
        assert cos.shape == sin.shape == (*shape, 8)


@pytest.mark.parametrize("rope_type", ["default", "dynamic"])
def test_positions_without_rows_are_refused(rope_type: str) -> None:
    with pytest.raises(InvalidShape, match=r"position_ids must be \[rows, tokens\], got shape \(3,\); unsqueeze"):
        rotary(rope_type)(X, torch.arange(3))


@pytest.mark.parametrize("shape", [(3,), (2, 1)])
def test_lengths_of_other_rows_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidShape, match=r"seq_len must be one length or one for each of 2 rows, got shape \("):
        rotary("dynamic")(X, positions(3, 3), seq_len=torch.ones(shape, dtype=torch.int64))


# --- look-up


@every_variant
@pytest.mark.parametrize("declared", [None, ()])
def test_entries_and_scopes_are_honoured(rope_type: str, declared: Any) -> None:
    def function(*args: Any, **keywords: Any) -> tuple[Tensor, float]:
        return of_half(*args, **keywords)

    if declared is not None:
        declare(function, features=declared)
    local = RopeInterface()
    module, given_ = rotary(rope_type, interface=local), positions(3, 40)
    before, wanted = module(X, given_), ((given_[..., None] / 2).cos() * 2).expand(-1, -1, 8)
    for link in (ROPE_VARIANTS, local):
        with link.override(**{rope_type: function}):
            torch.testing.assert_close(module(X, given_)[0], wanted)
        torch.testing.assert_close(module(X, given_), before)
    local[rope_type] = function
    torch.testing.assert_close(module(X, given_)[0], wanted)
    del local[rope_type]
    torch.testing.assert_close(module(X, given_), before)


@every_variant
def test_compiled_code_serves_all_lengths_and_sees_scopes(rope_type: str) -> None:
    module, counter = rotary(rope_type), CompileCounter()
    compiled = torch.compile(module, backend=counter, fullgraph=True, dynamic=True)
    for length in (5, 40, 7, LENGTH, LENGTH + 1, 300):
        torch.testing.assert_close(compiled(X, positions(length, 3)), module(X, positions(length, 3)))
    assert counter.frame_count == 1
    with ROPE_INIT_FUNCTIONS.override(**{rope_type: grows_by_row}):
        torch.testing.assert_close(compiled(X, positions(9, 3)), module(X, positions(9, 3)))
        assert compiled(X, positions(9, 3))[0].max() < 0.5
    torch.testing.assert_close(compiled(X, positions(9, 3)), module(X, positions(9, 3)))
    assert counter.frame_count == 2


def test_compiled_code_takes_lengths() -> None:
    module, counter = rotary("dynamic"), CompileCounter()
    compiled = torch.compile(module, backend=counter, fullgraph=True, dynamic=True)
    for length in (17, 40, 12, 300):
        wanted = module(X, positions(9), seq_len=length)
        torch.testing.assert_close(compiled(X, positions(9), seq_len=length), wanted)
    assert counter.frame_count == 1
    for lengths in ([17, 3], [1, 40]):
        per_row = torch.tensor(lengths)
        torch.testing.assert_close(
            compiled(X, positions(9, 4), seq_len=per_row), module(X, positions(9, 4), seq_len=per_row)
        )


def test_compiled_code_calls_variants_of_one_length() -> None:
    interface = RopeInterface()
    interface["mine"] = growing
    module = rotary("mine", interface=interface)
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(X, positions(9, 4)), module(X, positions(9, 4)))


# --- dtype, device, copies


def test_a_model_in_low_precision_has_exact_frequencies() -> None:
    module, given_ = rotary("default"), positions(300)
    wanted = module(X, given_)
    for moved in (
        copy.deepcopy(module).bfloat16(),
        copy.deepcopy(module).to(torch.float16),
        copy.deepcopy(module).double(),
    ):
        assert moved.inv_freq is not None
        assert moved.inv_freq.dtype == torch.float32
        assert all(each.equal(other) for each, other in zip(moved(X, given_), wanted, strict=True))


@every_variant
@pytest.mark.parametrize("by", ["argument", "context", "to"])
def test_frequencies_are_computed_when_a_module_leaves_the_meta_device(rope_type: str, by: str) -> None:
    if by == "argument":
        module = rotary(rope_type, device="meta")
    elif by == "context":
        with torch.device("meta"):
            module = rotary(rope_type)
    else:
        module = rotary(rope_type).to("meta")
    if rope_type in CONSTANT:
        assert module.inv_freq is not None
        assert module.inv_freq.is_meta
    module.bfloat16().to_empty(device="cpu")
    for found, wanted in zip(module(X, positions(30)), rotary(rope_type)(X, positions(30)), strict=True):
        assert found.equal(wanted)


def test_emptying_a_module_that_has_frequencies_keeps_them() -> None:
    module = rotary("default")
    wanted = module(X, positions(5))
    module.to_empty(device="cpu")
    torch.testing.assert_close(module(X, positions(5)), wanted)


@every_variant
def test_copies_answer_for_themselves(rope_type: str) -> None:
    local = RopeInterface()
    module = rotary(rope_type, interface=local)
    assert module.state_dict() == {}
    assert not list(module.parameters())
    stored = io.BytesIO()
    torch.save(module, stored)
    stored.seek(0)
    copies: list[Any] = [
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        torch.load(stored, weights_only=False),
    ]
    wanted = module(X, positions(30))
    local[rope_type] = of_half
    for each in copies:
        torch.testing.assert_close(each(X, positions(30)), wanted)
        compiled: Any = torch.compile(each, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(X, positions(30)), wanted)
    assert module(X, positions(1))[0].eq(2.0).all()


# --- threads


def rotated_in_threads(rope_type: str, calls: int) -> int:
    """How many of `calls` in two threads, short and long ones at once, had a wrong result."""
    module = rotary(rope_type)
    lengths = (7, 3 * LENGTH)
    wanted = {length: rotary(rope_type)(X, positions(length)) for length in lengths}
    started = threading.Barrier(2)

    def run(length: int) -> int:
        given_, wrong = positions(length), 0
        started.wait()
        for _ in range(calls // 2):
            wrong += not all(a.equal(b) for a, b in zip(module(X, given_), wanted[length], strict=True))
        return wrong

    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(run, lengths))


@pytest.mark.parametrize("rope_type", GROWING)
def test_threads_of_different_lengths_share_a_module(rope_type: str) -> None:
    assert rotated_in_threads(rope_type, 600) == 0


@pytest.mark.slow
@pytest.mark.parametrize("rope_type", GROWING)
def test_ten_thousand_calls_in_threads_have_no_wrong_result(rope_type: str) -> None:
    assert rotated_in_threads(rope_type, 10_000) == 0
