"""What models fix in their code and not in their configurations."""

from typing import Any

import pytest
import torch

from headstock.errors import InvalidShape
from headstock.rope import RopeParameters
from headstock.rope.conventions import FIXED, conventions
from tests.support.rope_variants import worst_relative_error


@pytest.mark.parametrize("model_type", [None, 3, "llama", ["pixtral"]])
def test_any_other_model_has_none(model_type: object) -> None:
    assert conventions(model_type, {"head_dim": 8}) == {}


def test_what_the_config_says_itself_goes_before() -> None:
    assert conventions("qwen3_vl_text", {}) == {"mrope_interleaved": True}
    assert conventions("qwen3_vl_text", {"mrope_interleaved": False}) == {}


@pytest.mark.parametrize("model_type", sorted(FIXED))
def test_every_model_type_is_one_of_transformers(model_type: str) -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    assert model_type in CONFIG_MAPPING


@pytest.mark.parametrize(("part", "width"), [(4.0, 128), (1.0, 32), (0.5, 16)])
def test_efficientloftr_rotates_the_channels_of_several_heads(part: float, width: int) -> None:
    from transformers import EfficientLoFTRConfig
    from transformers.models.efficientloftr.modeling_efficientloftr import EfficientLoFTRRotaryEmbedding

    config = EfficientLoFTRConfig(rope_parameters={"rope_theta": 1e4, "partial_rotary_factor": part})
    parameters = RopeParameters.from_config(config, strict=True)
    assert parameters.rotary_dim == width
    expected, _ = EfficientLoFTRRotaryEmbedding.compute_default_rope_parameters(config)
    assert worst_relative_error(parameters.frequencies()[0], expected) == 0.0


def test_glm_rounds_an_odd_part_up() -> None:
    from transformers import Glm4MoeConfig
    from transformers.models.glm4_moe.modeling_glm4_moe import Glm4MoeRotaryEmbedding

    config = Glm4MoeConfig()
    expected, _ = Glm4MoeRotaryEmbedding.compute_default_rope_parameters(config)
    inv_freq, _ = RopeParameters.from_config(config, strict=True).frequencies()
    assert inv_freq.shape == expected.shape == (11,)
    assert worst_relative_error(inv_freq, expected) == 0.0


@pytest.mark.parametrize("model_type", ["ernie4_5_vl_moe_text", "hunyuan_vl_text"])
def test_a_layout_that_is_not_here_is_refused_on_several_axes(model_type: str) -> None:
    """And not computed as another one; text, with one position for all axes, is the same in every layout."""
    config: dict[str, Any] = {"model_type": model_type, "head_dim": 8, "rope_parameters": {"mrope_section": [2, 1, 1]}}
    parameters = RopeParameters.from_config(config, strict=True)
    inv_freq, _ = parameters.frequencies()
    assert parameters.angles(torch.ones(1, 3), inv_freq).shape == (1, 3, 4)
    with pytest.raises(InvalidShape, match="position_ids must be"):
        parameters.angles(torch.ones(3, 1, 3), inv_freq)
