"""The size of a head, and the part of it that is turned, are read from all that configs say about them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstock.rope.reading import RopeSource, read_rope


@pytest.mark.parametrize("config", [{"head_dim": None}, {}], ids=["None", "absent"])
def test_head_dim_comes_from_the_width_where_it_is_absent(config: dict[str, Any]) -> None:
    source = read_rope(config | {"hidden_size": 96, "num_attention_heads": 4})
    assert source is not None
    assert source.head_dim == 24


def test_head_dim_is_none_where_nothing_says_it() -> None:
    assert read_rope({"rope_theta": 1e4}) == RopeSource("default", {"rope_theta": 1e4}, None, None)


def test_names_of_gpt2_for_width_and_heads_are_read() -> None:
    assert read_rope({"n_embd": 96, "n_head": 4, "rotary_dim": 6}) == RopeSource(
        "default", {"partial_rotary_factor": 0.25}, 24, None
    )


@given(head_dim=st.integers(1, 2048), data=st.data())
def test_the_fraction_of_a_rotary_dim_gives_it_back(head_dim: int, data: st.DataObject) -> None:
    rotary_dim = data.draw(st.integers(1, head_dim))
    source = read_rope({"head_dim": head_dim, "rotary_dim": rotary_dim})
    assert source is not None
    assert int(head_dim * source.fields.get("partial_rotary_factor", 1.0)) == rotary_dim


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"hidden_size": 7168, "num_attention_heads": 128}, (64, {})),  # DeepSeek-V3
        ({"head_dim": 192}, (64, {})),
        ({"head_dim": 512, "partial_rotary_factor": 0.125}, (512, {"partial_rotary_factor": 0.125})),  # DeepSeek-V4
        ({"qk_nope_head_dim": 64, "partial_rotary_factor": 0.5}, (128, {"partial_rotary_factor": 0.5})),  # Mistral 4
        ({"partial_rotary_factor": 1.0}, (64, {"partial_rotary_factor": 1.0})),
    ],
)
def test_latent_attention_turns_its_rotary_part(config: dict[str, Any], expected: tuple[int, dict[str, Any]]) -> None:
    source = read_rope({"qk_rope_head_dim": 64} | config)
    assert source is not None
    assert (source.head_dim, source.fields, source.notes) == (*expected, ())


def test_a_fraction_of_no_head_size_gives_way_to_the_rotary_part() -> None:
    source = read_rope({"qk_rope_head_dim": 64, "head_dim": 192, "partial_rotary_factor": 0.5})
    assert source is not None
    assert (source.head_dim, dict(source.fields)) == (64, {})
    assert "qk_rope_head_dim is 64, which is not partial_rotary_factor = 0.5" in source.notes[0]


def test_a_fraction_that_is_no_number_is_left_to_the_check_of_its_field() -> None:
    source = read_rope({"qk_rope_head_dim": 64, "partial_rotary_factor": "half"})
    assert source is not None
    assert (source.head_dim, source.fields) == (64, {"partial_rotary_factor": "half"})


@pytest.mark.parametrize(("rope_type", "head_dim"), [("axial", 80), ("default", 224)])
def test_vision_towers_are_as_wide_as_their_embeddings(rope_type: str, head_dim: int) -> None:
    config = {"hidden_size": 3584, "embed_dim": 1280, "num_heads": 16, "rope_parameters": {"rope_type": rope_type}}
    assert read_rope(config) == RopeSource(rope_type, {}, head_dim, None)


def test_memory_attention_has_heads_of_its_own() -> None:
    width = {"memory_attention_hidden_size": 256, "memory_attention_num_attention_heads": 1}
    assert read_rope(width | {"memory_attention_downsample_rate": 2}) == RopeSource("default", {}, 128, None)
