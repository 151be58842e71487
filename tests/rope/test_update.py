"""The decorator on classes of transformers: frequencies follow from the length alone, in place, in one graph."""

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from transformers import Gemma3TextConfig, LlamaConfig
from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from headstock.errors import InvalidComponent, UnknownName
from headstock.layers import ALL_LAYERS, layer_kind
from headstock.registry import declare
from headstock.rope import ROPE_INIT_FUNCTIONS, RopeParameters, dynamic_rope_update
from tests.support.rotary import CONSTANT, GROWING, LENGTH, growing, grows_by_row, of_half, positions, rotary_config

X = torch.empty(0)
LENGTHS = (5, 40, 7, LENGTH, LENGTH + 1, 300, 2)
every_variant = pytest.mark.parametrize("rope_type", [*CONSTANT, *GROWING])


def bare(function: Any) -> Callable[..., Any]:
    """The forward as the model's file writes it."""
    inner: Callable[..., Any] = inspect.unwrap(function)
    return inner


class Rotary(LlamaRotaryEmbedding):
    """transformers' own module, its forward decorated by us."""

    forward = torch.no_grad()(dynamic_rope_update(bare(LlamaRotaryEmbedding.forward)))


class LayeredRotary(Gemma3RotaryEmbedding):
    """One set of frequencies per kind of layer."""

    forward = torch.no_grad()(dynamic_rope_update(bare(Gemma3RotaryEmbedding.forward)))


def config_of(rope_type: str, **more: Any) -> LlamaConfig:
    return LlamaConfig(hidden_size=16, num_attention_heads=2, **rotary_config(rope_type, **more))


def layered_config(full: str, sliding: str) -> Gemma3TextConfig:
    own = {kind: rotary_config(name)["rope_parameters"] for kind, name in (("full", full), ("sliding", sliding))}
    given_ = rotary_config("longrope") | {"rope_parameters": {f"{kind}_attention": each for kind, each in own.items()}}
    return Gemma3TextConfig(
        hidden_size=16,
        num_attention_heads=2,
        num_hidden_layers=2,
        layer_types=list(given_["rope_parameters"]),
        **given_,
    )


def same(found: Any, wanted: Any) -> bool:
    return all(one.equal(other) for one, other in zip(found, wanted, strict=True))


@every_variant
@pytest.mark.parametrize("length", LENGTHS)
def test_one_call_is_that_of_transformers(rope_type: str, length: int) -> None:
    config = config_of(rope_type)
    found, wanted = (kind(config)(X, positions(length)) for kind in (Rotary, LlamaRotaryEmbedding))
    # Frequencies agree to 1e-6, and angles up to 300 turn by it.
    torch.testing.assert_close(found, wanted, rtol=0, atol=300 * 1e-6)


@given(st.sampled_from([*CONSTANT, *GROWING]), st.lists(st.integers(1, 3 * LENGTH), min_size=1, max_size=6))
@example("dynamic", [3 * LENGTH, 5])
@example("longrope", [5, 3 * LENGTH, 5])
def test_a_call_does_not_depend_on_calls_before(rope_type: str, lengths: list[int]) -> None:
    config = config_of(rope_type)
    module = Rotary(config)
    for length in lengths:
        assert same(module(X, positions(length)), Rotary(config)(X, positions(length)))


@pytest.mark.parametrize("rope_type", GROWING)
def test_the_buffer_holds_the_variants_frequencies_at_its_address(rope_type: str) -> None:
    module, parameters = Rotary(config_of(rope_type)), RopeParameters.from_config(rotary_config(rope_type))
    address = module.inv_freq.data_ptr()
    for length in LENGTHS:
        module(X, positions(length))
        assert module.inv_freq.equal(parameters.frequencies(torch.tensor(length))[0])
        assert module.inv_freq.data_ptr() == address
    assert module.state_dict() == {}


def test_the_factor_follows_the_length_too() -> None:
    more = {"short_mscale": 1.5, "long_mscale": 3.0}
    module = Rotary(config_of("longrope", **more))
    for length, factor in ((5, 1.5), (40, 3.0), (7, 1.5)):
        module(X, positions(length))
        assert float(module.attention_scaling) == factor


@every_variant
def test_one_graph_serves_all_lengths(rope_type: str) -> None:
    config, counter = config_of(rope_type), CompileCounter()
    module = Rotary(config)
    compiled = torch.compile(module, backend=counter, fullgraph=True, dynamic=True)
    address = module.inv_freq.data_ptr()
    for length in LENGTHS:
        torch.testing.assert_close(compiled(X, positions(length)), Rotary(config)(X, positions(length)))
    assert counter.frame_count == 1
    assert module.inv_freq.data_ptr() == address


@pytest.mark.parametrize(("full", "sliding"), [("dynamic", "default"), ("longrope", "dynamic"), ("yarn", "longrope")])
def test_each_kind_of_layer_has_its_own(full: str, sliding: str) -> None:
    config, counter = layered_config(full, sliding), CompileCounter()
    module = LayeredRotary(config)
    compiled = torch.compile(LayeredRotary(config), backend=counter, fullgraph=True, dynamic=True)
    kinds = config.layer_types or []
    addresses = [getattr(module, f"{kind}_inv_freq").data_ptr() for kind in kinds]
    for length in LENGTHS:
        for kind in kinds:
            found = module(X, positions(length), kind)
            assert same(found, LayeredRotary(config)(X, positions(length), kind))
            torch.testing.assert_close(compiled(X, positions(length), kind), found)
            theirs = Gemma3RotaryEmbedding(config)(X, positions(length), kind)
            torch.testing.assert_close(found, theirs, rtol=0, atol=300 * 1e-6)
    assert addresses == [getattr(module, f"{kind}_inv_freq").data_ptr() for kind in kinds]
    assert counter.frame_count == len(kinds)
    assert not hasattr(module, "attention_scaling")


@pytest.mark.parametrize("rope_type", ["default", "longrope"])
@pytest.mark.parametrize("function", [of_half, growing, grows_by_row, "constant"])
def test_scopes_are_honoured_and_leave_nothing(rope_type: str, function: Any) -> None:
    if function == "constant":
        function = declare(functools.partial(of_half), features=())
    config, counter = config_of(rope_type), CompileCounter()
    module = Rotary(config)
    compiled = torch.compile(Rotary(config), backend=counter, fullgraph=True, dynamic=True)
    inv_freq, factor = function(None, seq_len=9)
    angles = positions(9)[..., None] * inv_freq.repeat(2)
    for _ in range(2):
        wanted = Rotary(config)(X, positions(40))
        for each in (module, compiled):
            torch.testing.assert_close(each(X, positions(40)), wanted)
        with ROPE_INIT_FUNCTIONS.override(**{rope_type: function}):
            for each in (module, compiled):
                torch.testing.assert_close(each(X, positions(9))[0], angles.cos() * factor)
        for each in (module, compiled):
            torch.testing.assert_close(each(X, positions(40)), wanted)


def test_a_variant_of_a_user_is_served() -> None:
    ROPE_INIT_FUNCTIONS.register("mine", growing)
    try:
        module = Rotary(config_of("default"))
        module.rope_type = "mine"
        for length in (9, 3):
            cos, _ = module(X, positions(length))
            torch.testing.assert_close(cos, ((positions(length)[..., None] / length).cos() / length).expand(-1, -1, 8))
    finally:
        ROPE_INIT_FUNCTIONS.unregister("mine")


@pytest.mark.parametrize("rope_type", GROWING)
@pytest.mark.parametrize("compiled", [False, True])
def test_a_rounded_buffer_is_replaced_once(rope_type: str, compiled: bool) -> None:
    config = config_of(rope_type)
    module = Rotary(config).bfloat16()
    wanted = Rotary(config)(X, positions(40))
    assert module.inv_freq.dtype == torch.bfloat16
    run: Any = torch.compile(module, backend="eager", fullgraph=True) if compiled else module
    torch.testing.assert_close(run(X, positions(40)), wanted)
    address = module.inv_freq.data_ptr()
    torch.testing.assert_close(run(X, positions(40)), wanted)
    assert (module.inv_freq.dtype, module.inv_freq.data_ptr()) == (torch.float32, address)


@every_variant
def test_constant_frequencies_are_left_as_the_module_made_them(rope_type: str) -> None:
    module = Rotary(config_of(rope_type))
    module.inv_freq.fill_(0.25)
    module(X, positions(5))
    assert module.inv_freq.eq(0.25).all() == (rope_type in CONSTANT)


@pytest.mark.parametrize("shape", [(2, 0), (0, 3)])
def test_no_positions_write_nothing(shape: tuple[int, int]) -> None:
    module = Rotary(config_of("dynamic"))
    module(X, positions(40))
    before = module.inv_freq.clone()
    assert module(X, torch.zeros(shape, dtype=torch.int64))[0].shape == (*shape, 8)
    assert module.inv_freq.equal(before)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_every_mode_of_gradients(mode: Any) -> None:
    module = Rotary(config_of("dynamic"))
    with mode():
        found = module(X, positions(40))
    assert same(found, Rotary(config_of("dynamic"))(X, positions(40)))
    assert same(module(X, positions(5)), Rotary(config_of("dynamic"))(X, positions(5)))


def test_copies_are_apart() -> None:
    module = Rotary(config_of("dynamic"))
    module(X, positions(40))
    other = copy.deepcopy(module)
    other(X, positions(5))
    assert not module.inv_freq.equal(other.inv_freq)
    assert same(module(X, positions(40)), Rotary(config_of("dynamic"))(X, positions(40)))


def test_the_forward_keeps_its_name_and_is_a_component() -> None:
    assert Rotary.forward.__name__ == "forward"
    assert bare(Rotary.forward) is bare(LlamaRotaryEmbedding.forward)
    assert ALL_LAYERS["dynamic_rope_update"] is dynamic_rope_update
    assert layer_kind(dynamic_rope_update) == "decorator"


class Own(nn.Module):
    """A module of a user with what is needed and no more."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        for name, value in attributes.items():
            setattr(self, name, value)

    @dynamic_rope_update
    def forward(self, x: Tensor, position_ids: Tensor, layer_type: str | None = None) -> Any:
        return self.inv_freq


def attributes(**changed: Any) -> dict[str, Any]:
    inside: dict[str, Any] = {"config": rotary_config("dynamic"), "rope_type": "dynamic", "attention_scaling": 1.0}
    return inside | {"inv_freq": nn.Buffer(torch.empty(4))} | changed


def test_four_attributes_are_enough() -> None:
    wanted = RopeParameters.from_config(rotary_config("dynamic")).frequencies(40)[0]
    torch.testing.assert_close(Own(**attributes())(X, positions(40)), wanted)


@pytest.mark.parametrize("name", list(attributes()))
def test_missing_attributes_are_named(name: str) -> None:
    module = Own(**{key: value for key, value in attributes().items() if key != name})
    with pytest.raises(
        InvalidComponent, match=rf"Own must have config, .* for dynamic_rope_update, got none of {name};"
    ):
        module(X, positions(3))


def test_missing_attributes_of_a_kind_of_layer_are_named() -> None:
    module = Own(**attributes(rope_type={"full": "dynamic"}))
    with pytest.raises(InvalidComponent, match="got none of full_attention_scaling, full_inv_freq; set them"):
        module(X, positions(3), "full")


@pytest.mark.parametrize(
    ("rope_type", "layer_type"), [({"full": "dynamic"}, None), ({"full": None}, "full"), ("a", "b")]
)
def test_kinds_of_layer_without_a_variant_are_refused(rope_type: Any, layer_type: str | None) -> None:
    more = {f"{layer_type}_attention_scaling": 1.0, f"{layer_type}_inv_freq": torch.empty(4)}
    module = Own(**attributes(rope_type=rope_type, **more))
    with pytest.raises(InvalidComponent, match=f"must name a variant for layer type {layer_type!r}, got"):
        module(X, positions(3), layer_type)


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(UnknownName, match=r"must be one of .*got 'dynamc'"):
        Own(**attributes(rope_type="dynamc"))(X, positions(3))
