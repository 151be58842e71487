"""Where headstock's frequencies are not those of transformers 5.23.0: what each computes, as docs/rope.md lists it."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, MiniMaxM2Config, Qwen3Config, modeling_rope_utils
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS as THEIRS
from transformers.modeling_rope_utils import rope_config_validation
from transformers.models.minimax_m3_vl.configuration_minimax_m3_vl import MiniMaxM3VLTextConfig
from transformers.models.minimax_m3_vl.modeling_minimax_m3_vl import MiniMaxM3VLRotaryEmbedding

from headstock.errors import InvalidConfig, UnknownName
from headstock.rope import ROPE_INIT_FUNCTIONS, RopeParameters, read_rope

FULL = "full_attention"
WIDTH: dict[str, Any] = {"head_dim": 16, "max_position_embeddings": 8192}
YARN: dict[str, Any] = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 4.0,
    "original_max_position_embeddings": 2048,
}


def nested(parameters: dict[str, Any], **fields: Any) -> Any:
    """A config of transformers with one layer and one set of parameters for its type."""
    one_layer: dict[str, Any] = {"num_hidden_layers": 1, "layer_types": [FULL]}
    return Qwen3Config(**WIDTH, **one_layer, **fields, rope_parameters={FULL: dict(parameters)})


def flat(parameters: dict[str, Any], **fields: Any) -> Any:
    return LlamaConfig(**(WIDTH | fields), rope_parameters=copy.deepcopy(parameters))


def ours(config: object, layer_type: str | None = None) -> Tensor:
    return RopeParameters.from_config(config, layer_type).frequencies()[0]


def yarn_in_float64(*, theta: float, factor: float, original: int, dim: int, truncate: bool) -> Tensor:
    """Peng et al. 2023, section 3.2, with the ramp over indices of the authors' code."""

    def index_of(turns: float) -> float:
        return dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = index_of(32), index_of(1)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    index = torch.arange(dim // 2, dtype=torch.float64)
    kept = theta ** (-2 * index / dim)
    ramp = ((index - low) / (high - low)).clamp(0, 1)
    return kept / factor * ramp + kept * (1 - ramp)


def test_yarn_reads_truncate_of_a_layer_type() -> None:
    config = nested(YARN | {"truncate": False})
    expected = yarn_in_float64(theta=1e4, factor=4.0, original=2048, dim=16, truncate=False).float()
    torch.testing.assert_close(ours(config, FULL), expected, rtol=1e-6, atol=0)
    theirs, _ = THEIRS["yarn"](config, layer_type=FULL)
    truncated = yarn_in_float64(theta=1e4, factor=4.0, original=2048, dim=16, truncate=True).float()
    torch.testing.assert_close(theirs, truncated, rtol=1e-6, atol=0)


# With theta 10 the slowest of eight pairs turns 10^6 / (2 pi 10^(14/16)) = 21,000 times in a million tokens, far more
# often than 32 times; in one token even the fastest turns less than once.
@pytest.mark.parametrize(
    ("original", "ours_by", "theirs_by"), [(10**6, 1, 4), (1, 4, 1)], ids=["all kept", "none kept"]
)
def test_yarn_does_not_turn_the_ramp_round(original: int, ours_by: int, theirs_by: int) -> None:
    length = {"original_max_position_embeddings": original}
    config = flat(YARN | {"rope_theta": 10.0} | length, max_position_embeddings=4 * original)
    plain = 10.0 ** (-torch.arange(0, 16, 2, dtype=torch.float64) / 16)
    torch.testing.assert_close(ours(config), (plain / ours_by).float(), rtol=1e-6, atol=0)
    torch.testing.assert_close(THEIRS["yarn"](config)[0], (plain / theirs_by).float(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["dynamic", "yarn", "longrope"])
def test_a_head_dim_of_none_is_worked_out(name: str) -> None:
    factors = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    own = {"dynamic": {"factor": 4.0}, "yarn": YARN, "longrope": YARN | factors}[name]
    config = flat({"rope_theta": 1e4} | own | {"rope_type": name}, hidden_size=64, num_attention_heads=4)
    expected = ours(config)
    config.head_dim = None
    assert torch.equal(ours(config), expected)
    with pytest.raises(TypeError, match="NoneType"):
        THEIRS[name](config)


def test_an_impossible_factor_is_refused() -> None:
    config = flat({"rope_type": "linear", "rope_theta": 1e4, "factor": -3.0})
    assert THEIRS["linear"](config)[0][0] == pytest.approx(-1 / 3)  # turning backwards
    with pytest.raises(InvalidConfig, match=r"factor must .* got -3.0"):
        ours(config)


def test_frequency_factors_in_the_wrong_order_are_refused() -> None:
    wrong = {"low_freq_factor": 4.0, "high_freq_factor": 1.0, "factor": 8.0, "rope_type": "llama3"}
    config = flat(YARN | wrong)
    theirs, _ = THEIRS["llama3"](config)
    plain = 1e4 ** (-torch.arange(0, 16, 2) / 16)
    assert {round(float(ratio)) for ratio in plain / theirs} == {1, 8}  # nothing is blended
    with pytest.raises(InvalidConfig, match="high_freq_factor must be above low_freq_factor"):
        ours(config)


def test_a_misspelled_variant_is_refused() -> None:
    parameters = {"rope_type": "lineer", "rope_theta": 1e4, "factor": 2.0}
    assert flat(parameters).rope_parameters == parameters
    with pytest.raises(UnknownName, match="lineer"):
        ours(WIDTH | {"rope_parameters": parameters})


def test_an_odd_width_is_refused() -> None:
    config = flat({"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0, "partial_rotary_factor": 0.5}, head_dim=42)
    assert THEIRS["linear"](config)[0].shape == (11,)  # for 22 of 21 channels
    with pytest.raises(InvalidConfig, match="must be an even number of channels"):
        ours(config)


def test_lists_of_the_wrong_length_are_refused() -> None:
    lists = {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}
    config = flat(YARN | lists)
    assert THEIRS["longrope"](config)[0].shape == (8,)  # one divisor for all
    with pytest.raises(InvalidConfig, match="short_factor must have one entry for each of 8"):
        ours(config)


def test_default_has_an_entry_and_so_has_mrope() -> None:
    assert {"default", "mrope", "axial"} <= set(ROPE_INIT_FUNCTIONS) - set(THEIRS)


def test_computing_changes_no_config() -> None:
    written = {"type": "linear", "rope_theta": 1e4, "factor": 2.0}
    config = flat(written)
    for compute, changed in ((ROPE_INIT_FUNCTIONS["linear"], False), (THEIRS["linear"], True)):
        config.rope_parameters = dict(written)
        compute(config)
        assert (config.rope_parameters != written) is changed


def test_making_a_config_changes_no_dict_of_the_callers() -> None:
    written = {"type": "linear", "factor": 2.0}
    RopeParameters.from_config(WIDTH | {"rope_parameters": written})
    assert written == {"type": "linear", "factor": 2.0}
    LlamaConfig(**WIDTH, rope_parameters=written)
    assert written == {"type": "linear", "factor": 2.0, "rope_theta": 1e4, "rope_type": "linear"}


def test_a_length_outside_counts_for_layer_types_too() -> None:
    parameters = {key: value for key, value in YARN.items() if key != "original_max_position_embeddings"}
    raw = WIDTH | {"original_max_position_embeddings": 2048, "rope_parameters": {FULL: parameters}}
    source = read_rope(raw, FULL)
    assert source is not None
    assert source.fields["original_max_position_embeddings"] == 2048
    theirs = nested(parameters, original_max_position_embeddings=2048).rope_parameters
    assert theirs[FULL]["original_max_position_embeddings"] == 8192  # the extended length as the one trained on


def test_sets_by_layer_type_are_read_where_the_config_declares_no_layer_types() -> None:
    raw = WIDTH | {"rope_parameters": {FULL: YARN}}
    source = read_rope(raw, FULL)
    assert source is not None
    assert source.rope_type == "yarn"
    assert flat({FULL: YARN}).rope_parameters["rope_type"] == "default"  # YaRN is forgotten in silence


def test_a_rotary_dim_survives_the_division_by_head_dim() -> None:
    source = read_rope({"head_dim": 44, "rotary_dim": 30})
    assert source is not None
    assert int(44 * source.fields["partial_rotary_factor"]) == 30
    theirs: Any = MiniMaxM2Config(head_dim=44, rotary_dim=30)  # type: ignore[call-arg]
    assert int(44 * theirs.rope_parameters["partial_rotary_factor"]) == 29


def test_a_rotary_dim_is_read_that_transformers_documents_and_leaves() -> None:
    config: Any = MiniMaxM3VLTextConfig()
    assert (config.rotary_dim, config.head_dim) == (64, 128)
    assert len(ours(config)) == 32
    assert len(MiniMaxM3VLRotaryEmbedding(config).inv_freq) == 64


def test_ignored_keys_of_the_older_function_are_forgotten_there(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(modeling_rope_utils.logger, "warning", told.append)
    config = flat({"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0})
    config.rope_parameters["mine"] = 1
    with pytest.warns(FutureWarning, match="deprecated"):
        rope_config_validation(config, ignore_keys={"mine"})
    assert "Unrecognized keys" in "".join(told)  # headstock's: tests/compat/modeling_rope_utils/test_mixin.py


def test_dynamic_needs_two_pairs() -> None:
    config = flat({"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0, "partial_rotary_factor": 0.125})
    with pytest.raises(ZeroDivisionError):
        THEIRS["dynamic"](config)
    with pytest.raises(InvalidConfig, match="at least 4 channels"):
        ours(config)
