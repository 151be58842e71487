"""GPT-2's configuration: what is not computed is refused, scaling follows the fields."""

from typing import Any

import pytest

from headstock.errors import InvalidConfig
from headstock.models.gpt2 import GPT2Config
from tests.support.models import GPT2_FIELDS, microformer_folder


def gpt2(**changed: Any) -> GPT2Config:
    return GPT2Config(**{**GPT2_FIELDS, **changed})


@pytest.mark.parametrize(
    ("field", "value", "only"),
    [
        ("add_cross_attention", True, "False"),
        ("is_encoder_decoder", True, "False"),
        ("cross_attention_hidden_size", 24, "None"),
        ("tie_encoder_decoder", True, "False"),
        ("model_type", "bert", "'gpt2'"),
    ],
)
def test_what_is_not_computed_is_refused(field: str, value: object, only: str) -> None:
    with pytest.raises(InvalidConfig, match=rf"GPT2Config\.{field} must be {only}, the only value .*, got {value!r}"):
        gpt2(**{field: value})


def test_pruned_heads_are_refused() -> None:
    with pytest.raises(InvalidConfig, match=r"GPT2Config\.pruned_heads .*at most 0 items.*, got \{0: \[1\]\}"):
        gpt2(pruned_heads={0: [1]})


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(InvalidConfig, match="GPT2Config: n_embd must be a multiple of n_head, got 24 and 5"):
        gpt2(n_head=5)


def test_the_real_file_is_read() -> None:
    config = GPT2Config.read(microformer_folder() / "config.json")
    assert (config.n_embd, config.n_layer, config.n_head, config.inner) == (256, 8, 8, 1024)
    assert (config.activation_function, config.layer_norm_epsilon) == ("gelu_new", 1e-5)


@pytest.mark.parametrize("field", sorted(GPT2Config.passed_over))
def test_fields_of_other_heads_are_passed_over(field: str) -> None:
    assert gpt2(**{field: 3}) == gpt2()


@pytest.mark.parametrize(
    ("by_width", "by_layer", "expected"), [(True, False, 6**-0.5), (True, True, 6**-0.5 / 3), (False, True, 1 / 3)]
)
def test_scaling_follows_width_and_layer(by_width: bool, by_layer: bool, expected: float) -> None:
    config = gpt2(scale_attn_weights=by_width, scale_attn_by_inverse_layer_idx=by_layer)
    assert config.scaling(2) == pytest.approx(expected, rel=1e-15)


def test_the_inner_width_is_the_files_or_four_times_the_models() -> None:
    assert gpt2().inner == 96
    assert gpt2(n_inner=10).inner == 10
