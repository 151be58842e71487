"""Fields are read alike from mappings and objects, per layer type, and what refuses to be read is absent."""

from typing import Any

import pytest

from headstock.errors import InvalidConfig
from headstock.rope.reading import RopeSource, read_rope
from headstock.rope.view import View, whole_number

FULL, SLIDING = "full_attention", "sliding_attention"


def test_per_layer_config_gives_head_sizes_by_layer_type() -> None:
    config = {
        "head_dim": 64,
        "layer_types": [SLIDING, FULL, FULL],
        "per_layer_config": {"1": {"head_dim": 128}, "2": {"head_dim": 128}},
    }
    sources = [read_rope(config, layer_type) for layer_type in (SLIDING, FULL)]
    assert [source and source.head_dim for source in sources] == [64, 128]


def test_layers_of_one_type_that_differ_have_no_head_size() -> None:
    config = {"head_dim": 64, "layer_types": [FULL, FULL], "per_layer_config": {"1": {"head_dim": 128}}}
    source = read_rope(config, FULL)
    assert source is not None
    assert source.head_dim is None


def test_an_object_that_refuses_a_field_is_read_without_it() -> None:
    class Refusing:
        rope_theta = 1e4

        @property
        def head_dim(self) -> int:
            raise RuntimeError("differs between layers")

        @property
        def per_layer_config(self) -> dict[str, Any]:
            raise ValueError("no")

    assert read_rope(Refusing(), FULL) == RopeSource("default", {"rope_theta": 1e4}, None, None)


def test_a_class_gives_its_default_theta_and_variant() -> None:
    class Config:
        head_dim = 8
        default_theta = 5e5
        default_rope_type = "axial"

    assert read_rope(Config()) == RopeSource("axial", {"rope_theta": 5e5}, 8, None)


@pytest.mark.parametrize(("layer_type", "theta"), [(FULL, 1e6), (SLIDING, 1e4)])
@pytest.mark.parametrize("default", [{"global": 1e6, "local": 1e4}, {FULL: 1e6, SLIDING: 1e4}])
def test_a_default_theta_per_layer_type_is_taken_by_it(
    default: dict[str, float], layer_type: str, theta: float
) -> None:
    config = {"default_theta": default, "rope_parameters": {FULL: {"rope_type": "default"}, SLIDING: {}}}
    assert read_rope(config, layer_type) == RopeSource("default", {"rope_theta": theta}, None, None)


@pytest.mark.parametrize("given", [{"first": {"head_dim": 8}}, {"0": 8}])
def test_overrides_that_are_not_by_index_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig, match=r"^per_layer_config must have a mapping of fields for each index"):
        read_rope({"per_layer_config": given}, FULL)


def test_the_older_name_of_global_head_sizes_is_read() -> None:
    config = {"head_dim": 256, "global_head_dim": 512}
    sources = [read_rope(config, layer_type) for layer_type in (SLIDING, FULL)]
    assert [source and source.head_dim for source in sources] == [256, 512]


def test_labels_that_are_no_list_of_names_are_none() -> None:
    assert View({"layer_types": "full_attention"}).labels() == ()
    assert View({"layer_types": [1, FULL, FULL]}).labels() == (FULL,)


def test_a_whole_number_may_be_written_as_a_float() -> None:
    assert whole_number("head_dim", 64.0) == 64


@pytest.mark.parametrize("value", [0, -8, 1.5, float("nan"), float("inf"), True, "8", [8], None])
def test_what_is_no_whole_number_above_zero_is_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidConfig, match=r"^head_dim must be a whole number above 0, got "):
        whole_number("head_dim", value)
