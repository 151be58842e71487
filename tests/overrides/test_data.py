import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstock.errors import InvalidConfig
from headstock.overrides import LayerOverrides, MaskOverride, Overrides

TEXTS = st.text(min_size=1, max_size=12)
SCALARS = st.one_of(
    st.booleans(), st.integers(-(2**40), 2**40), st.floats(allow_nan=False, allow_infinity=False), TEXTS
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3))
MASKS = TEXTS.flatmap(lambda text: st.sampled_from([{"join": text}, {"replace": text}]))
CHECKPOINTS = st.one_of(
    TEXTS,
    st.builds(lambda name, options: {**options, "policy": name}, TEXTS, st.dictionaries(TEXTS, VALUES, max_size=2)),
)
SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "attention": TEXTS,
    "mask": MASKS,
    "rope": st.dictionaries(TEXTS, VALUES, min_size=1, max_size=3),
    "checkpoint": CHECKPOINTS,
}
ENTRIES = st.builds(
    lambda match, said, layer: {**said, **layer, "match": match},
    st.sampled_from(["layers.0-3", "*.self_attn", "**", "h.1,4"]),
    st.fixed_dictionaries({}, optional=SETTINGS).filter(bool),
    st.fixed_dictionaries({}, optional={"layer": TEXTS}),
)
DATA = st.builds(
    lambda whole, layers: {**whole, "layers": layers} if layers else whole,
    st.fixed_dictionaries({}, optional=SETTINGS),
    st.lists(ENTRIES, max_size=3),
)


@given(DATA)
def test_overrides_are_read_back_as_equal_from_toml_json_and_dicts(data: dict[str, Any]) -> None:
    overrides = Overrides.from_dict(data)
    for again in (
        Overrides.from_toml(overrides.to_toml()),
        Overrides.from_json(overrides.to_json()),
        Overrides.from_dict(overrides.to_dict()),
        copy.deepcopy(overrides),
        pickle.loads(pickle.dumps(overrides)),
    ):
        assert again == overrides
        assert hash(again) == hash(overrides)
        assert again.to_dict() == overrides.to_dict()


def test_layers_may_be_a_mapping_in_the_order_of_their_force() -> None:
    listed = Overrides.from_dict(
        {"layers": [{"match": "layers.1", "attention": "eager"}, {"match": "layers.0", "attention": "sdpa"}]}
    )
    mapped = Overrides.from_dict({"layers": {"layers.1": {"attention": "eager"}, "layers.0": {"attention": "sdpa"}}})
    turned = Overrides.from_dict({"layers": {"layers.0": {"attention": "sdpa"}, "layers.1": {"attention": "eager"}}})
    assert listed == mapped != turned


def test_toml_may_name_layers_by_keys() -> None:
    text = 'attention = "sdpa"\n[layers."layers.0-3"]\nattention = "eager"\n'
    assert Overrides.from_toml(text).layers == (LayerOverrides(match="layers.0-3", attention="eager"),)


def test_a_policy_alone_in_a_table_says_no_more_than_its_name() -> None:
    assert Overrides.from_dict({"checkpoint": {"policy": "full"}}) == Overrides(checkpoint="full")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"atention": "sdpa"}, "Overrides must have known fields only, got 'atention'; did you mean 'attention'\\?"),
        ({"zzz": 1}, "got 'zzz'; the fields are attention, mask, rope, checkpoint, layers"),
        ({"layer": "RMSNorm"}, "must have known fields only, got 'layer'"),
        ({"attention": 3}, "Overrides.attention must be a valid string, got 3"),
        ({"attention": ""}, "Overrides.attention must be String should have at least 1 character, got ''"),
        ({"mask": "causal"}, "must be a valid dictionary or instance of MaskOverride, got 'causal'"),
        ({"mask": {"join": "causal", "replace": "causal"}}, "a mask must be given as join or as replace, one of them"),
        ({"mask": {}}, "a mask must be given as join or as replace"),
        ({"rope": {}}, "Overrides.rope must be"),
        ({"rope": {"factor": {"x": 1}}}, "Overrides.rope.factor"),
        ({"rope": {"factor": None}}, "Overrides.rope.factor"),
        ({"checkpoint": {"k": 2}}, "a name, or a table with the name in the field 'policy', got {'k': 2}"),
        ({"layers": {"layers.0": {}}}, "an entry must set something for 'layers.0', got nothing; leave it out"),
        ({"layers": [{"attention": "sdpa"}]}, "LayerOverrides must have the field 'match', got none; add it"),
        ({"layers": {"a b": {"attention": "sdpa"}}}, "a layer pattern must join names"),
        ({"layers": {"layers.0": {"atention": "sdpa"}}}, "layers.0: LayerOverrides must have known fields only"),
        ({"layers": {"layers.0": "sdpa"}}, "Overrides.layers must be"),
        ({"layers": 3}, "Overrides.layers must be"),
    ],
)
def test_what_is_refused_is_named(data: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidConfig, match=text):
        Overrides.from_dict(data)


@pytest.mark.parametrize("data", [[1], "attention", None])
def test_what_is_no_mapping_is_refused(data: Any) -> None:
    with pytest.raises(InvalidConfig, match="overrides must be a mapping of fields, got"):
        Overrides.from_dict(data)


def test_fields_cannot_be_assigned() -> None:
    overrides = Overrides(attention="sdpa")
    with pytest.raises(ValueError, match="frozen"):
        overrides.attention = "eager"
    assert MaskOverride(replace="causal").text == "causal"


def test_a_file_says_in_its_refusals_which_it_is(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.toml"
    good.write_text(json.dumps({"attention": "sdpa"}))
    bad.write_text('atention = "sdpa"')
    assert Overrides.read(good) == Overrides(attention="sdpa")
    with pytest.raises(InvalidConfig, match=r"did you mean 'attention'\? \(.*bad.toml\)"):
        Overrides.read(bad)


def test_a_repr_shows_what_is_set() -> None:
    entry = LayerOverrides(match="layers.0", attention="sdpa")
    assert repr(entry) == "LayerOverrides(attention='sdpa', match='layers.0')"
