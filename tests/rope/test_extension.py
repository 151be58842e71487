"""The lengths before and after stretching, and the factor between them: what follows from what."""

import warnings
from typing import Any

import pytest

from headstock.errors import ConfigWarning, InvalidConfig
from headstock.rope import LongropeParameters, RopeParameters, YarnParameters

LONG = {"rope_type": "longrope", "short_factor": [1, 1], "long_factor": [2, 2]}


def read(scaling: dict[str, Any], longest: int | None, *, strict: bool = False) -> Any:
    config = {"head_dim": 4, "max_position_embeddings": longest, "rope_parameters": scaling}
    return RopeParameters.from_config(config, strict=strict)


@pytest.mark.parametrize("scaling", [{"rope_type": "yarn"}, LONG])
def test_the_factor_is_the_ratio_of_the_lengths_where_none_is_given(scaling: dict[str, Any]) -> None:
    scaling = scaling | {"original_max_position_embeddings": 4096}
    assert read(scaling, 131_072, strict=True).factor == 32.0
    assert read(scaling | {"factor": None}, 131_072, strict=True).factor == 32.0


def test_the_original_length_is_the_longest_where_none_is_given() -> None:
    parameters = read({"rope_type": "yarn", "factor": 4.0}, 4096, strict=True)
    assert isinstance(parameters, YarnParameters)
    assert parameters.original_max_position_embeddings == 4096
    assert parameters.factor == 4.0


def test_a_shorter_longest_length_gives_no_factor() -> None:
    parameters = read(LONG | {"original_max_position_embeddings": 4096}, 2048, strict=True)
    assert isinstance(parameters, LongropeParameters)
    assert parameters.factor is None
    with pytest.raises(InvalidConfig, match="factor must be given for rope_type 'yarn', got none"):
        read({"rope_type": "yarn", "original_max_position_embeddings": 4096}, 2048)


@pytest.mark.parametrize("scaling", [{"rope_type": "yarn"}, LONG])
def test_qwen3s_recipe_is_doubted_and_taken(scaling: dict[str, Any]) -> None:
    """Its documentation says factor 4 from 32768, in a config with max_position_embeddings = 40960."""
    scaling = scaling | {"factor": 4.0, "original_max_position_embeddings": 32_768}
    text = (
        r"^factor must be max_position_embeddings / original_max_position_embeddings, got 4 and 40960 / 32768 = 1.25; "
        "factor is taken"
    )
    with pytest.warns(ConfigWarning, match=text):
        parameters = read(scaling, 40_960)
    assert parameters.factor == 4.0
    with pytest.raises(InvalidConfig, match=text):
        read(scaling, 40_960, strict=True)


@pytest.mark.parametrize(
    ("factor", "original", "longest"),
    [(40, 4096, 163_840), (40.0, 4096, 163_840.0), (4.0, 32_768, 32_768), (4.0, 32_768, None), (1 / 0.3, 3000, 10_000)],
)
def test_lengths_that_agree_are_not_doubted(factor: float, original: int, longest: int | None) -> None:
    scaling = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(scaling, longest).factor == factor


def test_junk_that_is_no_mapping_is_pydantics_to_refuse() -> None:
    with pytest.raises(ValueError, match="model_type"):
        YarnParameters.model_validate(3)
