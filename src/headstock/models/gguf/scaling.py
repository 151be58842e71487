"""RoPE as a GGUF file describes it, in the fields of a configuration."""

from typing import Any

from torch import Tensor

from headstock.errors import InvalidConfig, UnsupportedFeature
from headstock.models.gguf.fields import Fields

__all__ = ["FACTORS", "rope_parameters"]

# Divisors of the frequencies, one each: how the files of Llama 3 carry its scaling.
FACTORS = "rope_freqs.weight"
_THETA = 10000.0  # what llama.cpp takes where a file says nothing


def rope_parameters(fields: Fields, factors: Tensor | None, *, context: int, half: int) -> dict[str, Any]:
    """The `rope_parameters` that compute what the file means.

    Args:
        fields: those of the architecture.
        factors: the tensor `rope_freqs.weight`, where the file has one.
        context: the context length.
        half: how many frequencies a head has.

    Raises:
        InvalidConfig: a value is missing or impossible, or the factors do not fit the heads.
        UnsupportedFeature: a kind of scaling that has no counterpart here, or two at a time.
    """
    theta = fields.number("rope.freq_base", _THETA)
    kind = fields.get("rope.scaling.type") or "none"
    scaled = _scaled(fields, kind, context)
    if factors is None:
        return {"rope_theta": theta, **scaled}
    if kind != "none":
        raise UnsupportedFeature(f"RoPE must be scaled in one way, got {kind!r} and the tensor {FACTORS}")
    return {"rope_theta": theta, **_divided(factors, context, half)}


def _scaled(fields: Fields, kind: object, context: int) -> dict[str, Any]:
    match kind:
        case "none":
            for each in ("factor", "original_context_length", "finetuned"):
                fields.get(f"rope.scaling.{each}")  # said by some files beside it, and without effect
            return {"rope_type": "default"}
        case "linear":
            fields.get("rope.scaling.finetuned")
            return {"rope_type": "linear", "factor": fields.number("rope.scaling.factor")}
        case "yarn":
            return _yarn(fields, context)
    raise UnsupportedFeature(
        f"the GGUF field rope.scaling.type must be one of 'none', 'linear', 'yarn', got {kind!r}; "
        "other kinds are not computed here"
    )


def _yarn(fields: Fields, context: int) -> dict[str, Any]:
    fields.get("rope.scaling.finetuned")
    if fields.number("rope.scaling.yarn_ext_factor", 1.0) != 1:
        raise UnsupportedFeature("the GGUF field rope.scaling.yarn_ext_factor must be 1, the only value computed here")
    factor = fields.number("rope.scaling.factor")
    found: dict[str, Any] = {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": fields.size("rope.scaling.original_context_length", context),
        "beta_fast": fields.number("rope.scaling.yarn_beta_fast", 32.0),
        "beta_slow": fields.number("rope.scaling.yarn_beta_slow", 1.0),
    }
    if fields.number("rope.scaling.attn_factor", 1.0) != 1:
        raise UnsupportedFeature("the GGUF field rope.scaling.attn_factor must be 1, the only value computed here")
    return found


def _divided(factors: Tensor, context: int, half: int) -> dict[str, Any]:
    """Divisors of each frequency at every length: LongRoPE whose short and long factors are the same."""
    divisors = [float(each) for each in factors.flatten()]
    if len(divisors) != half or not all(0 < each < float("inf") for each in divisors):
        raise InvalidConfig(f"{FACTORS} must hold {half} positive numbers, got {divisors}")
    if set(divisors) == {1.0}:
        return {"rope_type": "default"}
    same = {"short_factor": divisors, "long_factor": divisors}
    return {
        "rope_type": "longrope",
        **same,
        "factor": 1.0,
        "attention_factor": 1.0,
        "original_max_position_embeddings": context,
    }
