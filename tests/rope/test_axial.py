"""Axial RoPE: every layout of angles that transformers' vision models use, from their own configurations."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headstock.errors import InvalidShape
from headstock.rope import AxialParameters, DefaultParameters, RopeParameters
from tests.support.rope_models import axial_angles_of, axial_models, axial_rotary_of
from tests.support.rope_variants import rounding, worst_relative_error

# Blocks, pairs of neighbours, width first (twice), turns, three axes, halves for themselves, one spectrum.
LAYOUTS = ["qwen2_vl", "sam3", "step3p7", "inkling2", "kimi_k25", "minimax_m3_vl", "gemma4", "pixtral"]


def compare(model: str) -> None:
    rotary, config = axial_rotary_of(model)
    parameters = RopeParameters.from_config(config, strict=True)
    assert isinstance(parameters, AxialParameters)
    positions = torch.randint(0, 50, (parameters.axes, 20))
    cosine, sine = axial_angles_of(model, rotary, positions)
    inv_freq, factor = parameters.frequencies()
    angles = parameters.angles(positions.unsqueeze(1), inv_freq)[0]
    assert cosine.shape == angles.shape == (20, parameters.rotary_dim // 2)
    # Of frequencies that may differ in a last bit, times positions below 50.
    bound = 50 * 2 * torch.finfo(torch.float32).eps
    assert float((angles.cos() - cosine).abs().max()) <= bound
    assert float((angles.sin() - sine).abs().max()) <= bound
    assert factor == 1.0


@pytest.mark.parametrize("model", LAYOUTS)
def test_a_layout_is_that_of_the_model(model: str) -> None:
    compare(model)


def test_all_models_that_transformers_calls_axial() -> None:
    models = axial_models()
    assert set(LAYOUTS) < set(models)
    for model in models:
        compare(model)


@given(quarter=st.integers(1, 32), theta=st.floats(1.5, 1e6))
def test_each_axis_has_a_whole_spectrum(quarter: int, theta: float) -> None:
    exact = torch.tensor([theta ** (-i / quarter) for i in range(quarter)] * 2, dtype=torch.float64)
    inv_freq, _ = AxialParameters(head_dim=4 * quarter, rope_theta=theta).frequencies()
    assert worst_relative_error(inv_freq, exact) <= rounding(theta)


@given(
    quarter=st.integers(1, 16),
    order=st.sampled_from(["blocks", "turns"]),
    flipped=st.booleans(),
    spectrum=st.sampled_from(["each", "shared"]),
)
def test_every_layout_holds_the_same_angles(quarter: int, order: str, flipped: bool, spectrum: str) -> None:
    """They differ in order alone: each pair turns by its axis' position times one of its axis' frequencies."""
    layout = {"axial_order": order, "axial_reversed": flipped, "axial_spectrum": spectrum}
    parameters = AxialParameters(head_dim=4 * quarter, **layout)  # type: ignore[arg-type]  # texts of a Literal
    inv_freq, _ = parameters.frequencies()
    found = parameters.angles(torch.tensor([3, 1000]).view(2, 1, 1), inv_freq).flatten()
    if spectrum == "each":
        height = width = DefaultParameters(head_dim=2 * quarter).frequencies()[0]
    else:
        whole, _ = DefaultParameters(head_dim=4 * quarter).frequencies()
        height, width = whole[0::2], whole[1::2]
    assert found.sort().values.equal(torch.cat([3 * height, 1000 * width]).sort().values)


def test_dinov3s_fractions_are_positions_too() -> None:
    """2 pi times the centres of patches in [-1, 1], theta 100."""
    from transformers import DINOv3ViTConfig
    from transformers.models.dinov3_vit.modeling_dinov3_vit import DINOv3ViTRopePositionEmbedding

    config = DINOv3ViTConfig(hidden_size=64, num_attention_heads=4, image_size=32, patch_size=8)
    cosine, sine = DINOv3ViTRopePositionEmbedding(config).eval()(torch.zeros(1, 3, 32, 32))
    parameters = AxialParameters(head_dim=16, rope_theta=config.rope_theta)
    centres = 2 * (torch.arange(4) + 0.5) / 4 - 1
    grid = 2 * math.pi * torch.stack(torch.meshgrid(centres, centres, indexing="ij")).flatten(1)
    angles = parameters.angles(grid.unsqueeze(1), parameters.frequencies()[0])[0].tile(2)
    bound = 2 * math.pi * 4 * torch.finfo(torch.float32).eps
    assert float((angles.cos() - cosine).abs().max()) <= bound
    assert float((angles.sin() - sine).abs().max()) <= bound


@pytest.mark.parametrize("shape", [(1, 5), (3, 1, 5), (1, 2, 1, 5)])
def test_positions_without_its_axes_are_refused(shape: tuple[int, ...]) -> None:
    parameters = AxialParameters(head_dim=8)
    with pytest.raises(InvalidShape, match=r"^position_ids must be \[2, rows, tokens\], got shape .*; several"):
        parameters.angles(torch.zeros(shape), parameters.frequencies()[0])


def test_three_axes_leave_a_rest_of_the_head_as_it_is() -> None:
    """MiniMax-M3-VL: 80 channels, of which 3 * 26 turn."""
    assert AxialParameters(head_dim=80, axes=3).rotary_dim == 78
