"""RoPE's scaling in a file computes the same angles as the configuration that is made of it."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from headstock.errors import InvalidConfig, UnsupportedFeature
from headstock.models.gguf.cursor import Value
from headstock.models.gguf.fields import Fields
from headstock.models.gguf.scaling import rope_parameters


def read(values: dict[str, Value], factors: torch.Tensor | None = None) -> dict[str, Any]:
    fields = Fields({f"llama.rope.{name}": value for name, value in values.items()}, "llama")
    found = rope_parameters(fields, factors, context=4096, half=8)
    fields.refuse_others()
    return found


def frequencies(parameters: dict[str, Any]) -> tuple[torch.Tensor, float]:
    config = LlamaConfig(
        hidden_size=64, num_attention_heads=4, max_position_embeddings=4096, rope_parameters=parameters
    )
    if parameters["rope_type"] == "default":
        theta = parameters["rope_theta"]
        return theta ** -(torch.arange(0, 16, 2) / 16), 1.0
    found, attention = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](config, "cpu", seq_len=8192)
    return found, attention


@pytest.mark.parametrize("beside", [{}, {"scaling.type": "none"}, {"scaling.type": "none", "scaling.factor": 2.0}])
def test_without_scaling_it_is_plain(beside: dict[str, Value]) -> None:
    assert read({"freq_base": 5e5, **beside}) == {"rope_theta": 5e5, "rope_type": "default"}
    assert read(beside) == {"rope_theta": 1e4, "rope_type": "default"}


def test_linear_scaling_divides_every_frequency() -> None:
    found = read({"freq_base": 1e4, "scaling.type": "linear", "scaling.factor": 4.0, "scaling.finetuned": True})
    assert found == {"rope_theta": 1e4, "rope_type": "linear", "factor": 4.0}


def test_yarn_has_its_numbers_or_the_papers() -> None:
    said: dict[str, Value] = {"scaling.type": "yarn", "scaling.factor": 4.0}
    assert read(said) == {
        "rope_theta": 1e4, "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096,
        "beta_fast": 32.0, "beta_slow": 1.0,
    }  # fmt: skip
    more: dict[str, Value] = {
        "scaling.original_context_length": 1024,
        "scaling.yarn_beta_fast": 24.0,
        "scaling.yarn_beta_slow": 2.0,
    }
    found = read({**said, **more})
    assert (found["original_max_position_embeddings"], found["beta_fast"], found["beta_slow"]) == (1024, 24.0, 2.0)


@given(divisors=st.lists(st.floats(1, 64, width=32), min_size=8, max_size=8))
def test_divisors_of_the_frequencies_divide_them(divisors: list[float]) -> None:
    found, attention = frequencies(read({"freq_base": 5e5}, torch.tensor(divisors)))
    expected = 5e5 ** -(torch.arange(0, 16, 2).double() / 16) / torch.tensor(divisors, dtype=torch.float64)
    # A power (a few roundings in float32), a product and a division.
    torch.testing.assert_close(found.double(), expected, rtol=16 * torch.finfo(torch.float32).eps, atol=0)
    assert attention == 1.0


def test_the_divisors_of_llama_3_give_its_frequencies() -> None:
    said = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 2048}
    wanted, _ = frequencies({"rope_type": "llama3", "rope_theta": 5e5, **said})
    plain = 5e5 ** -(torch.arange(0, 16, 2).double() / 16)
    found, _ = frequencies(read({"freq_base": 5e5}, (plain / wanted.double()).float()))
    assert not torch.allclose(found.double(), plain, rtol=0.1)
    torch.testing.assert_close(found, wanted, rtol=16 * torch.finfo(torch.float32).eps, atol=0)


def test_divisors_of_one_are_no_scaling() -> None:
    assert read({}, torch.ones(8)) == {"rope_theta": 1e4, "rope_type": "default"}


@pytest.mark.parametrize("factors", [torch.ones(7), -torch.ones(8), torch.full((8,), math.nan)])
def test_divisors_that_do_not_fit_are_refused(factors: torch.Tensor) -> None:
    with pytest.raises(InvalidConfig, match=r"rope_freqs\.weight must hold 8 positive numbers, got \["):
        read({}, factors)


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"scaling.type": "longrope"}, r"rope\.scaling\.type must be one of 'none', 'linear', 'yarn', got 'longrope'"),
        ({"scaling.type": 3}, r"rope\.scaling\.type must be one of .*, got 3"),
        ({"scaling.type": "yarn", "scaling.factor": 2.0, "scaling.yarn_ext_factor": 0.5}, "yarn_ext_factor must be 1"),
        ({"scaling.type": "yarn", "scaling.factor": 2.0, "scaling.attn_factor": 0.5}, "attn_factor must be 1"),
        ({"scaling.type": "yarn", "scaling.factor": 2.0, "scaling.yarn_log_multiplier": 0.1}, "yarn_log_multiplier"),
        ({"scale_linear": 2.0}, r"known fields only, got llama\.rope\.scale_linear = 2\.0"),
    ],
)
def test_other_scalings_are_named(values: dict[str, Value], rule: str) -> None:
    with pytest.raises(UnsupportedFeature, match=rule):
        read(values)


def test_two_scalings_at_a_time_are_refused() -> None:
    with pytest.raises(UnsupportedFeature, match=r"scaled in one way, got 'linear' and the tensor rope_freqs\.weight"):
        read({"scaling.type": "linear", "scaling.factor": 2.0}, torch.ones(8))


def test_a_scaling_without_its_factor_is_refused() -> None:
    with pytest.raises(InvalidConfig, match=r"llama\.rope\.scaling\.factor must be a positive number, got none"):
        read({"scaling.type": "linear"})
