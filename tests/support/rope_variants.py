"""Valid configurations of every RoPE variant, and what transformers makes of them."""

import copy
import math
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

__all__ = [
    "VARIANTS",
    "config_of",
    "configs",
    "parameters_of",
    "ramp_ends",
    "rounding",
    "theirs",
    "worst_relative_error",
]

THETAS = st.one_of(st.sampled_from([10_000.0, 500_000, 1e6]), st.floats(100.0, 1e8))
FACTORS = st.one_of(st.sampled_from([1, 2.0, 4, 8.0, 40.0]), st.floats(1.0, 64.0))
LENGTHS = st.integers(64, 131_072)
WEIGHTS = st.one_of(st.just(0), st.floats(0.1, 2.0))
VARIANTS = ("default", "dynamic", "linear", "llama3", "longrope", "proportional", "yarn")


@st.composite
def _fields(draw: st.DrawFn, rope_type: str, half: int) -> dict[str, Any]:
    """The variant's own fields."""
    match rope_type:
        case "linear" | "dynamic":
            return {"factor": draw(FACTORS)}
        case "yarn":
            fast = draw(st.floats(2.0, 64.0))  # 32 where it is not said
            choices: dict[str, st.SearchStrategy[Any]] = {
                "attention_factor": st.floats(0.1, 4.0) | st.none(),
                "beta_fast": st.just(fast),
                "beta_slow": st.floats(0.25, min(fast, 32.0)),
                "mscale": WEIGHTS,
                "mscale_all_dim": WEIGHTS,
                "truncate": st.booleans(),
            }
            return draw(st.fixed_dictionaries({"factor": FACTORS}, optional=choices))
        case "longrope":
            divisors = st.lists(st.floats(0.5, 64.0), min_size=half, max_size=half)
            optional = {"factor": FACTORS, "attention_factor": st.floats(0.1, 4.0) | st.none()}
            return draw(st.fixed_dictionaries({"short_factor": divisors, "long_factor": divisors}, optional=optional))
        case "llama3":
            low = draw(st.floats(0.5, 4.0))
            above = draw(st.floats(0.5, 8.0))
            return {"factor": draw(FACTORS), "low_freq_factor": low, "high_freq_factor": low + above}
        case "proportional":
            return draw(st.fixed_dictionaries({}, optional={"factor": FACTORS}))
        case _:
            return {}


@st.composite
def parameters_of(draw: st.DrawFn, rope_type: str, head_dim: int, longest: int) -> dict[str, Any]:
    """One set of RoPE parameters, as `rope_parameters` has it."""
    pairs = head_dim // 2
    fractions = [k / pairs for k in range(1, pairs + 1) if k > 1 and int(head_dim * (k / pairs)) == 2 * k]
    fraction = draw(st.one_of(st.none(), st.sampled_from([*fractions, 1.0])))
    half = pairs if fraction is None else int(head_dim * fraction) // 2
    fields = {"rope_type": rope_type, "rope_theta": draw(THETAS), **draw(_fields(rope_type, half))}
    if fraction is not None:
        fields["partial_rotary_factor"] = fraction
    if rope_type in ("yarn", "longrope", "llama3"):
        fields["original_max_position_embeddings"] = draw(st.integers(min(64, longest), longest))
    return fields


@st.composite
def configs(draw: st.DrawFn, variants: tuple[str, ...] = VARIANTS) -> tuple[dict[str, Any], str | None]:
    """A configuration, flat or per layer type, and the layer type to read."""
    head_dim = 2 * draw(st.one_of(st.integers(3, 16), st.just(32)))
    longest = draw(LENGTHS)
    sets = st.sampled_from(variants).flatmap(lambda name: parameters_of(name, head_dim, longest))
    layer_type = draw(st.sampled_from([None, "full_attention", "sliding_attention"]))
    parameters: dict[str, Any] = draw(sets)
    if layer_type is not None:
        other = "sliding_attention" if layer_type == "full_attention" else "full_attention"
        parameters = {layer_type: parameters, other: draw(sets)}
    return config_of(parameters, head_dim, longest), layer_type


def config_of(parameters: dict[str, Any], head_dim: int, longest: int) -> dict[str, Any]:
    """`config.json` around RoPE parameters."""
    return {
        "head_dim": head_dim,
        "hidden_size": 4 * head_dim,
        "layer_types": ["full_attention", "sliding_attention"],
        "max_position_embeddings": longest,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "rope_parameters": parameters,
    }


def theirs(config: dict[str, Any], layer_type: str | None, seq_len: int | None) -> tuple[Tensor, float]:
    """The inverse frequencies and attention factor of transformers' function for the same configuration."""
    from transformers import PreTrainedConfig, logging
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    from transformers.models.phi.modeling_phi import PhiRotaryEmbedding

    logging.set_verbosity_error()
    made: Any = PreTrainedConfig(**copy.deepcopy(config))
    parameters = made.rope_parameters if layer_type is None else made.rope_parameters[layer_type]
    if parameters["rope_type"] == "default":
        made.rope_parameters = parameters  # a model's own function, which knows no layer types
        inv_freq, factor = PhiRotaryEmbedding.compute_default_rope_parameters(made)
    else:
        function = ROPE_INIT_FUNCTIONS[parameters["rope_type"]]
        inv_freq, factor = function(made, device=None, seq_len=seq_len, layer_type=layer_type)
    return inv_freq, float(factor)


def worst_relative_error(found: Tensor, exact: Tensor) -> float:
    """The largest deviation, each in units of the exact number; equal zeros deviate by nothing."""
    found, exact = found.double(), exact.double()
    error = torch.where(found == exact, 0.0, (found - exact).abs() / exact.abs())
    return math.inf if bool(error.isnan().any()) else float(error.max())


def ramp_ends(inside: dict[str, Any], rotary_dim: int) -> tuple[float, float]:
    """Where YaRN's ramp begins and ends, by the index of a pair, before anything is clamped to the head."""
    original, theta = inside["original_max_position_embeddings"], inside["rope_theta"]

    def index_of(turns: float) -> float:
        return (rotary_dim * math.log(original / (turns * 2 * math.pi))) / (2 * math.log(theta))

    low, high = index_of(inside.get("beta_fast", 32)), index_of(inside.get("beta_slow", 1))
    return (math.floor(low), math.ceil(high)) if inside.get("truncate", True) else (low, high)


def rounding(theta: float) -> float:
    """By how much 1 / theta^x, 0 <= x <= 1, may err in float32, relatively.

    Roundings of theta and of x change the power by eps / 2 * x and eps / 2 * x ln(theta); the power itself is good to
    an ulp or two, the inverse and one more division to half an ulp each.
    """
    return (math.log(theta) / 2 + 4) * torch.finfo(torch.float32).eps
