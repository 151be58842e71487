"""Every variant that transformers has gives its numbers, from the same configuration."""

from typing import Any

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from headstock.rope import ROPE_INIT_FUNCTIONS, RopeParameters
from tests.support.rope_variants import VARIANTS, config_of, configs, ramp_ends, theirs, worst_relative_error

pytestmark = pytest.mark.filterwarnings(
    "ignore::headstock.errors.ConfigWarning"
)  # random lengths disagree with factors
SAME = 1e-6  # the bound that is promised: the same operations in float32, in the same order
LENGTHS = st.one_of(st.none(), st.integers(1, 64), st.integers(65, 1_000_000))
Case = tuple[dict[str, Any], str | None]


def compare(config: dict[str, Any], layer_type: str | None, seq_len: int | None) -> None:
    inside = config["rope_parameters"] if layer_type is None else config["rope_parameters"][layer_type]
    parameters = RopeParameters.from_config(config, layer_type)
    if inside["rope_type"] == "yarn":
        low, high = ramp_ends(inside, parameters.rotary_dim)
        assume(high >= 0 and low <= parameters.rotary_dim - 1)  # see test_yarn: there the ramp is turned round
        # Of sets per layer type, transformers reads `truncate` beside them and not inside.
        flat = config_of(inside, config["head_dim"], config["max_position_embeddings"])
        expected, expected_factor = theirs(flat, None, seq_len)
    else:
        expected, expected_factor = theirs(config, layer_type, seq_len)
    inv_freq, factor = parameters.frequencies(seq_len)
    assert inv_freq.shape == expected.shape
    assert inv_freq.dtype == expected.dtype
    assert worst_relative_error(inv_freq, expected) <= SAME
    assert isinstance(factor, float)
    assert factor == pytest.approx(expected_factor, rel=SAME, abs=0.0)
    by_name, factor_by_name = ROPE_INIT_FUNCTIONS[inside["rope_type"]](config, seq_len=seq_len, layer_type=layer_type)
    assert by_name.equal(inv_freq)
    assert factor_by_name == factor


@pytest.mark.parametrize("variant", VARIANTS)
@given(data=st.data(), seq_len=LENGTHS)
def test_a_variant_equals_transformers(variant: str, data: st.DataObject, seq_len: int | None) -> None:
    compare(*data.draw(configs((variant,))), seq_len)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=1500)
@given(data=st.data(), seq_len=LENGTHS)
def test_a_variant_equals_transformers_in_thousands_of_cases(
    variant: str, data: st.DataObject, seq_len: int | None
) -> None:
    compare(*data.draw(configs((variant,))), seq_len)


DYNAMIC = config_of({"rope_type": "dynamic", "rope_theta": 1e8, "factor": 64.0}, 6, 131_072)


@given(case=configs(), seq_len=LENGTHS)
@example(case=(DYNAMIC, None), seq_len=131_073)
def test_a_length_in_a_tensor_gives_the_numbers_of_the_same_int(case: Case, seq_len: int | None) -> None:
    config, layer_type = case
    parameters = RopeParameters.from_config(config, layer_type)
    length = 1 if seq_len is None else seq_len
    plain, factor = parameters.frequencies(length)
    scalar, scalar_factor = parameters.frequencies(torch.tensor(length))
    rows, rows_factor = parameters.frequencies(torch.tensor([length, 1, length]))
    assert scalar.shape == plain.shape
    assert rows.shape == (3, *plain.shape)
    assert (scalar_factor, rows_factor) == (factor, factor)
    assert worst_relative_error(scalar, plain) <= SAME
    assert rows[0].equal(scalar)
    assert rows[2].equal(scalar)
    assert rows[1].equal(parameters.frequencies(torch.tensor(1))[0])
