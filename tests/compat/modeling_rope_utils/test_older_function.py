"""`rope_config_validation`: configs with the mixin, without it, and of transformers are checked alike."""

from typing import Any

import pytest
from transformers import LlamaConfig

from headstock.compat.modeling_rope_utils import RotaryEmbeddingConfigMixin, rope_config_validation
from headstock.errors import InvalidConfig


class Config(RotaryEmbeddingConfigMixin):
    """A user's configuration class."""

    head_dim, max_position_embeddings = 64, 8192

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


def test_the_function_of_older_code_standardises_and_checks() -> None:
    config = Config(rope_parameters={"type": "linear", "factor": 2.0, "mine": 1}, rope_theta=5e5)
    rope_config_validation(config, ignore_keys={"mine"})
    assert config.rope_parameters == {
        "type": "linear",
        "rope_type": "linear",
        "factor": 2.0,
        "mine": 1,
        "rope_theta": 5e5,
    }
    assert config.ignore_keys_at_rope_validation == {"mine"}
    config.rope_parameters["factor"] = 0.5
    with pytest.raises(InvalidConfig, match="factor"):
        rope_config_validation(config)


def test_the_function_of_older_code_checks_configs_without_the_mixin() -> None:
    class Plain:
        head_dim = 64
        rope_theta = 1e4
        rope_scaling: dict[str, Any] = {"type": "linear", "factor": 2.0}  # noqa: RUF012

    rope_config_validation(Plain())
    Plain.rope_scaling = {"type": "linear", "factor": 0.5}
    with pytest.raises(InvalidConfig, match="factor"):
        rope_config_validation(Plain())


def test_the_function_of_older_code_is_strict_on_transformers_configs() -> None:
    config = LlamaConfig(rope_parameters={"rope_type": "linear", "factor": 0.5, "rope_theta": 1e4})
    with pytest.raises(InvalidConfig, match="factor"):
        rope_config_validation(config)
