"""What a config says about RoPE is read the same from every layout, and nothing is written to it."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from headstock.errors import InvalidConfig
from headstock.rope.reading import RopeSource, read_rope, rope_layer_types
from tests.support.rope_configs import LAYOUTS, Content, as_object, contents, wild_configs, written

FULL, SLIDING = "full_attention", "sliding_attention"


@given(content=contents(), objects=st.booleans())
def test_every_layout_of_the_same_content_gives_the_same_source(content: Content, objects: bool) -> None:
    sources = []
    for layout in LAYOUTS:
        config: Any = written(content, layout)
        config = as_object(config) if objects else config
        sources.append(read_rope(config, FULL if layout.startswith("nested") else None))
    assert sources == [sources[0]] * len(sources)
    source = sources[0]
    assert source is not None
    assert source.rope_type == content.rope_type
    assert dict(source.fields) == content.fields
    assert source.head_dim == content.head_dim
    assert source.notes == ()


@given(content=contents(), layout=st.sampled_from(LAYOUTS), objects=st.booleans())
def test_reading_changes_nothing(content: Content, layout: str, objects: bool) -> None:
    config: Any = written(content, layout)
    before = copy.deepcopy(config)
    read: Any = as_object(config) if objects else config
    layer_types = rope_layer_types(read)
    source = read_rope(read, layer_types[0] if layer_types else None)
    assert source is not None
    source.fields["scribbled"] = 1  # type: ignore[index]  # even writing to what was read leaves the config alone
    assert config == before


@given(content=contents())
def test_a_dict_and_an_object_of_the_same_fields_are_read_alike(content: Content) -> None:
    config = written(content, "older")
    config["partial_rotary_factor"] = 0.25
    config["rope_scaling"]["partial_rotary_factor"] = 0.5
    assert read_rope(config) == read_rope(as_object(config))


def test_nothing_said_is_the_default_variant() -> None:
    assert read_rope({"head_dim": 8}) == RopeSource("default", {}, 8, None)


@pytest.mark.parametrize("config", [{"rope_parameters": None}, {"rope_scaling": None}, {"rope_parameters": {}}])
def test_null_parameters_are_the_default_variant(config: dict[str, Any]) -> None:
    assert read_rope(config | {"head_dim": 8, "rope_theta": 5e5}) == RopeSource("default", {"rope_theta": 5e5}, 8, None)


def test_null_for_a_layer_type_is_no_rope() -> None:
    config = {"head_dim": 8, "rope_parameters": {FULL: None, SLIDING: {"rope_theta": 1e4}}}
    assert read_rope(config, FULL) is None
    assert read_rope(config, SLIDING) == RopeSource("default", {"rope_theta": 1e4}, 8, None)


def test_null_for_all_layer_types_is_nested() -> None:
    assert rope_layer_types({"rope_parameters": {FULL: None}}) == (FULL,)
    assert rope_layer_types({"rope_parameters": {"rope_theta": None}}) == ()


def test_a_rotary_part_of_no_dimensions_is_no_rope() -> None:
    assert read_rope({"qk_rope_head_dim": 0, "hidden_size": 64, "num_attention_heads": 4}) is None


def test_values_that_are_mappings_are_layer_types_where_none_are_declared() -> None:
    config = {"rope_parameters": {"main": {"rope_theta": 1e4}, "compress": {"rope_theta": 1e5}}}
    assert rope_layer_types(config) == ("main", "compress")


def test_a_mapping_among_other_fields_is_a_field() -> None:
    config = {"head_dim": 8, "rope_parameters": {"rope_type": "mine", "table": {"a": 1}}}
    assert rope_layer_types(config) == ()
    assert read_rope(config) == RopeSource("mine", {"table": {"a": 1}}, 8, None)


def test_labels_of_the_sets_come_before_layer_types() -> None:
    sets = {"main": {"rope_theta": 1e4}, "compress": {"rope_theta": 1e5}}
    config = SimpleNamespace(_rope_type_labels=("main", "compress"), layer_types=["csa", "hca"], rope_parameters=sets)
    assert rope_layer_types(config) == ("main", "compress")


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}
DISAGREEMENTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "theta": (
        {"rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e5}},
        {"rope_theta": 5e5},
        "rope_theta is 500000.0 inside and 10000.0 outside the rope parameters; the inner one is taken",
    ),
    "fraction": (
        {"partial_rotary_factor": 0.5, "rope_parameters": {"partial_rotary_factor": 0.25}},
        {"partial_rotary_factor": 0.25},
        "partial_rotary_factor is 0.25 inside and 0.5 outside",
    ),
    "original length of Phi-3": (
        {"original_max_position_embeddings": 8192, "rope_parameters": dict(YARN)},
        {"factor": 4.0, "original_max_position_embeddings": 8192},
        "original_max_position_embeddings is 4096 inside and 8192 outside the rope parameters; the outer one is taken",
    ),
    "both layouts": (
        {"rope_parameters": {"rope_theta": 5e5}, "rope_scaling": {"type": "linear", "factor": 2.0}},
        {"factor": 2.0},
        "rope_scaling and rope_parameters disagree; rope_scaling is taken",
    ),
    "type": (
        {"rope_parameters": {"rope_type": "linear", "type": "dynamic", "factor": 2.0}},
        {"factor": 2.0},
        "rope_type is 'linear' and type is 'dynamic'; rope_type is taken",
    ),
    "rotary_dim": (
        {"head_dim": 64, "rotary_dim": 32, "partial_rotary_factor": 0.25},
        {"partial_rotary_factor": 0.25},
        "rotary_dim is 32 and partial_rotary_factor = 0.25 of head_dim = 64 is 16",
    ),
    "thetas of single layers": (
        {"rope_theta": 1e4, "layer_rope_theta": [1e4, 0, 1e6]},
        {"rope_theta": 1e4},
        "layer_rope_theta gives layers thetas other than rope_theta, [1000000.0]",
    ),
}


@pytest.mark.parametrize(("config", "fields", "note"), DISAGREEMENTS.values(), ids=DISAGREEMENTS)
def test_a_disagreement_is_noted(config: dict[str, Any], fields: dict[str, Any], note: str) -> None:
    source = read_rope(config)
    assert source is not None
    assert dict(source.fields) == fields
    assert len(source.notes) == 1
    assert note in source.notes[0]


def test_the_inner_length_is_taken_per_layer_type() -> None:
    config = {"original_max_position_embeddings": 8192, "rope_parameters": {FULL: dict(YARN)}}
    source = read_rope(config, FULL)
    assert source is not None
    assert source.fields["original_max_position_embeddings"] == 4096
    assert "the inner one is taken" in source.notes[0]


def test_an_outer_theta_is_the_default_of_sets_that_say_otherwise() -> None:
    config = {"rope_theta": 1e4, "rope_parameters": {"main": {}, "compress": {"rope_theta": 1.6e5}}}
    thetas = [read_rope(config, name) for name in ("main", "compress")]
    assert thetas == [RopeSource("default", {"rope_theta": theta}, None, None) for theta in (1e4, 1.6e5)]


def test_keys_beside_the_layer_types_are_noted() -> None:
    config = {"layer_types": [FULL], "rope_parameters": {FULL: {"rope_type": "default"}, "rope_theta": 1e4}}
    source = read_rope(config, FULL)
    assert source is not None
    assert source.fields == {}
    assert source.notes == (
        "rope_parameters has the keys ['rope_theta'] beside its layer types, where nothing reads them.",
    )


def test_keys_that_every_set_overrules_are_not_noted() -> None:
    sets = {FULL: {"rope_theta": 1e6}, SLIDING: None, "rope_theta": 1e4}
    assert read_rope({"rope_parameters": sets, "layer_types": [FULL, SLIDING]}, FULL) == RopeSource(
        "default", {"rope_theta": 1e6}, None, None
    )


def test_the_training_length_is_not_moved_into_variants_that_have_none() -> None:
    source = read_rope({"original_max_position_embeddings": 4096, "rope_theta": 1e4})
    assert source == RopeSource("default", {"rope_theta": 1e4}, None, None)


REFUSED: dict[str, tuple[dict[str, Any], str | None, str]] = {
    "rope_parameters": ({"rope_parameters": "yarn"}, None, r"^rope_parameters must be a mapping .*, got 'yarn'"),
    "rope_scaling": ({"rope_scaling": [2.0]}, None, r"^rope_scaling must be a mapping .*, got \[2.0\]"),
    "a key": ({"rope_parameters": {0: {}}}, None, r"^rope_parameters must be a mapping .* by name .*, got \{0"),
    "a set": (
        {"layer_types": [FULL], "rope_parameters": {FULL: 2}},
        FULL,
        r"^rope_parameters\['full_attention'\] must be a mapping .* got 2",
    ),
    "the type": ({"rope_parameters": {"rope_type": 3}}, None, r"^rope_type must be the name of a RoPE variant, got 3$"),
    "head_dim": ({"head_dim": 64.5}, None, r"^head_dim must be a whole number above 0, got 64.5$"),
    "heads": ({"hidden_size": 64, "num_attention_heads": 0}, None, r"^num_attention_heads must be a whole .* got 0$"),
    "length": ({"max_position_embeddings": "4k"}, None, r"^max_position_embeddings must be a whole .* got '4k'$"),
    "no layer type": ({"rope_parameters": {FULL: {}}}, None, r"^layer_type must name one of the sets .* got None"),
    "another layer type": ({"rope_parameters": {FULL: {}}}, SLIDING, r"must name .*\['full_attention'\], got 'slid"),
    "an undeclared one": (
        {"layer_types": [FULL]},
        "ful",
        r"^layer_type must be one of .*\['full_attention'\], got 'ful'",
    ),
    "a composite": (
        {"text_config": {"rope_theta": 1e4}, "hidden_size": 64},
        None,
        r"holds a text_config; pass that one$",
    ),
    "thetas of no layers": ({"rope_theta": [1e4, 1e6]}, None, r"^rope_theta must be a number, or one number per layer"),
}


@pytest.mark.parametrize(("config", "layer_type", "text"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_refused_by_name(config: dict[str, Any], layer_type: str | None, text: str) -> None:
    with pytest.raises(InvalidConfig, match=text):
        read_rope(config, layer_type)


@given(value=st.one_of(st.integers(), st.floats(), st.text(), st.lists(st.integers()), st.booleans()))
def test_no_value_of_the_parameters_crashes(value: object) -> None:
    assume(value)
    for field in ("rope_parameters", "rope_scaling"):
        with pytest.raises(InvalidConfig, match=f"^{field} must be a mapping"):
            read_rope({field: value})


def outcome(config: object, layer_type: str | None) -> str:
    """What is read, or the text of the refusal."""
    try:
        return repr(read_rope(config, layer_type))
    except InvalidConfig as error:
        return str(error)


@example(config={"layer_rope_theta": [[None]]}, layer_type=None)
@example(config={"per_layer_config": {"rope_type": None}}, layer_type=FULL)
@given(config=wild_configs(), layer_type=st.sampled_from([None, FULL, "mine"]))
def test_any_config_is_read_or_refused_alike_as_dict_and_object(config: dict[str, Any], layer_type: str | None) -> None:
    before = repr(config)  # NaN is not equal to itself, but its text is
    assert outcome(config, layer_type) == outcome(as_object(config), layer_type)
    assert repr(config) == before
