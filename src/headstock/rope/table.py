"""The shared table of RoPE variants and the overlays over it."""

from headstock.registry import Interface, Registry
from headstock.rope.axial import axial
from headstock.rope.contract import RopeFunction, check_variant
from headstock.rope.default import default
from headstock.rope.dynamic import dynamic
from headstock.rope.linear import linear
from headstock.rope.llama3 import llama3
from headstock.rope.longrope import longrope
from headstock.rope.mrope import mrope
from headstock.rope.proportional import proportional
from headstock.rope.yarn import yarn

__all__ = ["ROPE_INIT_FUNCTIONS", "ROPE_VARIANTS", "RopeInterface"]

ROPE_VARIANTS: Registry[RopeFunction] = Registry(
    "RoPE variant",
    check=check_variant,
    builtins={
        "axial": axial,
        "default": default,
        "dynamic": dynamic,
        "linear": linear,
        "llama3": llama3,
        "longrope": longrope,
        "mrope": mrope,
        "proportional": proportional,
        "yarn": yarn,
    },
    entry_points="headstock.rope",
    home=(__name__, "ROPE_VARIANTS"),
)


class RopeInterface(Interface[RopeFunction], registry=ROPE_VARIANTS):
    """One model's RoPE variants: its own entries over the shared ones.

    A variant is a function `(config, device=None, seq_len=None, layer_type=None)` to inverse frequencies
    `[rotary_dim // 2]` and the factor on cosines and sines. It may declare the class of its parameters (`parameters=`,
    a subclass of `RopeParameters`), and what its frequencies depend on (`features=`): on nothing (an empty set), on the
    length (`{"seq_len"}`), or on it with one length per row allowed (`{"seq_len", "rows"}`).

    Example:
        >>> import torch
        >>> def slow(config, device=None, seq_len=None, layer_type=None):
        ...     return torch.full((2,), 0.5, device=device), 1.0
        >>> local = RopeInterface()
        >>> local["slow"] = slow
        >>> from headstock.rope import RopeParameters
        >>> config = {"head_dim": 4, "rope_parameters": {"rope_type": "slow"}}
        >>> RopeParameters.from_config(config, interface=local).frequencies()
        (tensor([0.5000, 0.5000]), 1.0)
    """


ROPE_INIT_FUNCTIONS = RopeInterface()
"""The shared RoPE variants, under the name that transformers gives them."""
