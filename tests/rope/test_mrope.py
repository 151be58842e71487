"""Sections of frequencies for the axes of positions: Qwen2-VL's and Qwen3-VL's, and with any frequencies."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from headstock.errors import InvalidShape
from headstock.rope import DefaultParameters, MropeParameters, RopeParameters
from tests.support.rope_models import text_rotary_of

SIZES: dict[str, Any] = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 1}
QWEN2 = ("qwen2_vl", "Qwen2VLRotaryEmbedding", "Qwen2VLTextConfig")
QWEN3 = ("qwen3_vl", "Qwen3VLTextRotaryEmbedding", "Qwen3VLTextConfig")
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192, "rope_theta": 1e6}


def same_angles(parameters: RopeParameters, rotary: Any, positions: Tensor) -> None:
    inv_freq, factor = parameters.frequencies()
    angles = parameters.angles(positions, inv_freq)
    cosine, sine = rotary(torch.zeros(1), positions)
    assert (angles.cos() * factor).repeat(1, 1, 2).equal(cosine)
    assert (angles.sin() * factor).repeat(1, 1, 2).equal(sine)


@pytest.mark.parametrize("rope_type", ["default", "mrope", "yarn"])
@pytest.mark.parametrize("sections", [[2, 3, 3], [4, 2, 2], [6, 1, 1]])
def test_contiguous_sections_are_qwen2_vls(rope_type: str, sections: list[int]) -> None:
    parameters: dict[str, Any] = {"rope_theta": 1e6} | ({} if rope_type == "mrope" else {"rope_type": rope_type})
    parameters = (YARN if rope_type == "yarn" else parameters) | {"mrope_section": sections}
    rotary, config = text_rotary_of(*QWEN2, rope_parameters=parameters, max_position_embeddings=32_768, **SIZES)
    ours: Any = config
    if rope_type == "mrope":  # as the first checkpoints spell it
        ours = SIZES | {"rope_theta": 1e6, "rope_scaling": {"type": "mrope", "mrope_section": sections}}
    read = RopeParameters.from_config(ours, strict=True)
    assert read.rope_type == rope_type
    same_angles(read, rotary, torch.randint(0, 5000, (3, 2, 17)))


@pytest.mark.parametrize("said", [{"mrope_interleaved": True}, {}])
@pytest.mark.parametrize("sections", [[4, 2, 2], [3, 3, 2], [6, 1, 1]])
def test_interleaved_sections_are_qwen3_vls(said: dict[str, Any], sections: list[int]) -> None:
    """Its code interleaves whether the configuration says so or not."""
    parameters = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": sections} | said
    rotary, config = text_rotary_of(*QWEN3, rope_parameters=parameters, head_dim=16, **SIZES)
    read = RopeParameters.from_config(config, strict=True)
    assert read.mrope_interleaved
    same_angles(read, rotary, torch.randint(0, 5000, (3, 2, 17)))


@given(sections=st.lists(st.integers(1, 12), min_size=2, max_size=4), interleaved=st.booleans(), rows=st.integers(1, 3))
def test_text_has_the_angles_of_plain_rope(sections: list[int], interleaved: bool, rows: int) -> None:
    """One position for all axes, given once or once per axis."""
    sections = sorted(sections, reverse=True)
    interleaved = interleaved and max(sections[1:]) * len(sections) < sum(sections)
    parameters = MropeParameters(
        head_dim=2 * sum(sections), mrope_section=tuple(sections), mrope_interleaved=interleaved
    )
    inv_freq, _ = parameters.frequencies()
    positions = torch.randint(0, 1000, (rows, 5))
    plain = DefaultParameters(head_dim=2 * sum(sections)).angles(positions, inv_freq)
    assert parameters.angles(positions, inv_freq).equal(plain)
    assert parameters.angles(positions.expand(len(sections), -1, -1), inv_freq).equal(plain)


def test_each_axis_turns_its_own_frequencies() -> None:
    parameters = MropeParameters(head_dim=12, mrope_section=(2, 2, 2), rope_theta=1.0, mrope_interleaved=True)
    positions = torch.tensor([5, 6, 7]).view(3, 1, 1)
    assert parameters.angles(positions, parameters.frequencies()[0]).flatten().tolist() == [5, 6, 7, 5, 6, 7]


def test_rows_may_have_frequencies_of_their_own() -> None:
    parameters = DefaultParameters(head_dim=8, mrope_section=(2, 1, 1))
    inv_freq = torch.rand(2, 4)
    positions = torch.randint(0, 100, (3, 2, 5))
    found = parameters.angles(positions, inv_freq)
    for row in range(2):
        assert found[row : row + 1].equal(parameters.angles(positions[:, row : row + 1], inv_freq[row]))


@pytest.mark.parametrize("shape", [(2, 1, 5), (4, 1, 5), (5,), (3, 1, 1, 5)])
def test_positions_with_other_axes_are_refused(shape: tuple[int, ...]) -> None:
    parameters = MropeParameters(head_dim=8, mrope_section=(2, 1, 1))
    text = r"^position_ids must be \[rows, tokens\] or \[3, rows, tokens\], got shape"
    with pytest.raises(InvalidShape, match=text):
        parameters.angles(torch.zeros(shape), parameters.frequencies()[0])


def test_several_axes_without_sections_are_refused() -> None:
    parameters = DefaultParameters(head_dim=8)
    with pytest.raises(InvalidShape, match=r"^position_ids must be \[rows, tokens\], got shape \(3, 1, 5\)"):
        parameters.angles(torch.zeros(3, 1, 5), parameters.frequencies()[0])
