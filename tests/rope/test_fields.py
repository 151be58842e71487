"""Strict types: whole numbers as JSON writes them, and nothing else converted."""

from typing import Any

import pytest

from headstock.errors import InvalidConfig
from headstock.rope import DefaultParameters, LongropeParameters, MropeParameters, YarnParameters


def test_a_length_may_be_written_as_a_float() -> None:
    written: dict[str, Any] = {"head_dim": 64.0, "original_max_position_embeddings": 4096.0, "factor": 4}
    parameters = YarnParameters(**written)
    assert (parameters.head_dim, parameters.original_max_position_embeddings) == (64, 4096)
    assert isinstance(parameters.original_max_position_embeddings, int)
    assert isinstance(parameters.factor, float)


@pytest.mark.parametrize("length", [4096.5, "4096", True, float("nan"), float("inf"), 2**53 + 1, 0, -1, [4096]])
def test_any_other_length_is_refused(length: Any) -> None:
    with pytest.raises(InvalidConfig, match=r"^max_position_embeddings must be"):
        DefaultParameters(head_dim=8, max_position_embeddings=length)


def test_lists_become_tuples_so_that_parameters_are_hashable() -> None:
    sections: dict[str, Any] = {"mrope_section": [2.0, 1, 1]}
    written: dict[str, Any] = {"short_factor": [1, 2], "long_factor": (1, 2.5)}
    parameters = LongropeParameters(head_dim=4, original_max_position_embeddings=4, **written)
    assert (parameters.short_factor, parameters.long_factor) == ((1.0, 2.0), (1.0, 2.5))
    assert hash(parameters) == hash(parameters.model_copy())
    assert MropeParameters(head_dim=8, **sections).mrope_section == (2, 1, 1)


def test_every_refused_field_is_in_one_sentence_of_its_own() -> None:
    wrong: dict[str, Any] = {"head_dim": 0, "factor": 0.5, "nonsense": 1}
    with pytest.raises(InvalidConfig) as caught:
        YarnParameters(**wrong)
    assert str(caught.value) == (
        "head_dim must be greater than or equal to 1 for rope_type 'yarn', got 0; it is the channels of one head, or "
        "say hidden_size and num_attention_heads; "
        "original_max_position_embeddings must be given for rope_type 'yarn', got none; add it: the length trained on "
        "before stretching, in tokens; "
        "factor must be greater than or equal to 1 for rope_type 'yarn', got 0.5; it is how many times longer than "
        "original_max_position_embeddings sequences get; "
        "nonsense must not be given for rope_type 'yarn', got 1; take it away, or read all with "
        "RopeParameters.from_config, which finds the variant's class"
    )


def test_a_field_without_a_meaning_is_still_named() -> None:
    class Plain(DefaultParameters):
        strength: float

    incomplete: dict[str, Any] = {"head_dim": 8}
    with pytest.raises(InvalidConfig, match=r"^strength must be given .* add it: a field of Plain$"):
        Plain(**incomplete)
