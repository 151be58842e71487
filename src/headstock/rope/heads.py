"""How wide the heads are that RoPE turns, and which part of them it turns."""

import math
from typing import Any

from headstock.rope.view import View

__all__ = ["read_head_dim", "with_rotary_dim"]

HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
WIDTHS = ("hidden_size", "n_embd", "d_model", "embed_dim")


def read_head_dim(view: View, rope_type: str, fields: dict[str, Any], notes: list[str]) -> int | None:
    """The size of a head, so that `partial_rotary_factor` of it is turned; None where nothing says it.

    Multi-head latent attention turns a part of its own, `qk_rope_head_dim`, whatever the whole head measures.
    """
    part = view.whole("qk_rope_head_dim")
    whole = view.whole("head_dim") or _head_dim_of_width(view, rope_type)
    if part is None or rope_type == "proportional":
        return part or whole
    fraction = fields.get("partial_rotary_factor", 1.0)
    if isinstance(fraction, bool) or not isinstance(fraction, int | float):
        return part
    with_nope = part + (view.whole("qk_nope_head_dim") or 0)
    for candidate in (view.whole("head_dim"), with_nope, part):
        if candidate is not None and int(candidate * fraction) == part:
            return candidate
    if fields.pop("partial_rotary_factor", 1.0) != 1.0:
        notes.append(
            f"qk_rope_head_dim is {part}, which is not partial_rotary_factor = {fraction!r} of any head size here; "
            f"all {part} dimensions are turned."
        )
    return part


def _head_dim_of_width(view: View, rope_type: str) -> int | None:
    # Vision towers with axial RoPE may mean the text model by `hidden_size` and themselves by `embed_dim` (Qwen2-VL).
    width = view.whole("embed_dim", *WIDTHS) if rope_type == "axial" else view.whole(*WIDTHS)
    heads = view.whole(*HEADS)
    if width is None and heads is None:  # SAM 2 and its relatives have RoPE in their memory attention alone
        width, heads = view.whole("memory_attention_hidden_size"), view.whole("memory_attention_num_attention_heads")
        heads = heads and heads * (view.whole("memory_attention_downsample_rate") or 1)
    return None if width is None or heads is None else width // heads


def with_rotary_dim(view: View, head_dim: int | None, fields: dict[str, Any], notes: list[str]) -> None:
    """Turn the older `rotary_dim` (GPT-J, MiniMax-M2) into `partial_rotary_factor`, in place."""
    rotary_dim = view.whole("rotary_dim")
    if rotary_dim is None or head_dim is None or view.get("qk_rope_head_dim") is not None:
        return
    fraction = fields.get("partial_rotary_factor")
    if fraction is None:
        if rotary_dim != head_dim:
            fields["partial_rotary_factor"] = _fraction(rotary_dim, head_dim)
    elif isinstance(fraction, int | float) and int(head_dim * fraction) != rotary_dim:
        notes.append(
            f"rotary_dim is {rotary_dim} and partial_rotary_factor = {fraction!r} of head_dim = {head_dim} is "
            f"{int(head_dim * fraction)}; partial_rotary_factor is taken."
        )


def _fraction(part: int, whole: int) -> float:
    """A float that gives `part` again when `whole` of it is rounded down: 22 / 49 * 49 is less than 22."""
    fraction = part / whole
    return fraction if int(whole * fraction) == part else math.nextafter(fraction, math.inf)
