"""The RoPE configuration of every model of transformers is accepted, without a doubt, and gives finite frequencies."""

from collections.abc import Iterator
from typing import Any

import pytest

from headstock.errors import InvalidConfig
from headstock.rope import RopeParameters, read_rope, rope_layer_types

# No library can rotate these: a composite that describes no layers, and 73 channels in whole pairs.
IMPOSSIBLE = {"blt", "qwen3_omni_moe_text"}
# Not of an importable default at all, whatever they say about RoPE.
UNBUILDABLE = {"gemma4_assistant", "nougat"}


def parts(config: Any, depth: int = 0) -> Iterator[Any]:
    """The configuration and those inside it."""
    from transformers import PreTrainedConfig

    yield config
    for value in vars(config).values():
        if isinstance(value, PreTrainedConfig) and depth < 3:
            yield from parts(value, depth + 1)


def default_configs() -> Iterator[Any]:
    from transformers import logging
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    logging.set_verbosity_error()
    for name in sorted(set(CONFIG_MAPPING.keys()) - UNBUILDABLE):
        yield from parts(CONFIG_MAPPING[name]())


def check(config: Any, layer_type: str | None) -> bool:
    """Read strictly; False where there is nothing to read."""
    if layer_type is not None and read_rope(config, layer_type) is None:
        return False
    parameters = RopeParameters.from_config(config, layer_type, strict=True)
    inv_freq, _ = parameters.frequencies()
    assert inv_freq.shape == (parameters.rotary_dim // 2,)
    assert bool(inv_freq.isfinite().all())
    return True


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_every_default_is_accepted() -> None:
    accepted = 0
    for config in default_configs():
        if not getattr(config, "rope_parameters", None) or config.model_type in IMPOSSIBLE:
            continue
        for layer_type in rope_layer_types(config) or (None,):
            accepted += check(config, layer_type)
    assert accepted > 400


@pytest.mark.parametrize(
    ("name", "layer_type", "rope_type"),
    [
        ("LlamaConfig", None, "default"),
        ("MistralConfig", None, "default"),
        ("Qwen3Config", None, "default"),
        ("GptOssConfig", None, "yarn"),
        ("Mistral4Config", None, "yarn"),
        ("Gemma3TextConfig", "sliding_attention", "default"),
        ("Gemma4TextConfig", "full_attention", "proportional"),
        ("ModernBertConfig", "full_attention", "default"),
        ("PixtralVisionConfig", None, "axial"),
        ("Glm4MoeConfig", None, "default"),
        ("EfficientLoFTRConfig", None, "default"),
    ],
)
def test_a_default_is_accepted_as_its_variant(name: str, layer_type: str | None, rope_type: str) -> None:
    import transformers

    config = getattr(transformers, name)()
    assert RopeParameters.from_config(config, layer_type).rope_type == rope_type
    assert check(config, layer_type)


def test_a_default_that_cannot_be_run_is_refused() -> None:
    from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import Qwen3OmniMoeTextConfig

    with pytest.raises(InvalidConfig, match=r"head_dim \* partial_rotary_factor must be an even .* got 73 \* 1 = 73"):
        RopeParameters.from_config(Qwen3OmniMoeTextConfig())
