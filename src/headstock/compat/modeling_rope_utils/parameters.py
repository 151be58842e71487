"""transformers' typed dict of rope parameters."""

from typing import TypedDict

__all__ = ["RopeParameters"]


class RopeParameters(TypedDict, total=False):
    """The keys of rope parameters, as annotation and as a dict made by keywords: `RopeParameters(rope_theta=1e4)`.

    A plain dict, as in transformers, that checks nothing; `headstock.rope.RopeParameters.from_config` checks a config.

    >>> RopeParameters(rope_type="linear", factor=2.0)
    {'rope_type': 'linear', 'factor': 2.0}
    """

    rope_theta: float | None
    rope_type: str | None
    partial_rotary_factor: float | None
    factor: float | None
    original_max_position_embeddings: int | None
    attention_factor: float | None
    beta_fast: float | None
    beta_slow: float | None
    short_factor: list[float] | None
    long_factor: list[float] | None
    low_freq_factor: float | None
    high_freq_factor: float | None
    mscale: float | None
    mscale_all_dim: float | None
    truncate: bool | None
    mrope_section: list[int] | None
