"""The flash attention that runs under torch's own names: a setting of the process, not an entry of the table."""

from typing import NamedTuple

from torch.nn import attention

__all__ = ["FlashSetting", "active_flash_implementation"]


class FlashSetting(NamedTuple):
    """What torch says of it.

    Attributes:
        active: the implementation that was activated; None: torch's own flash attention 2.
        known: those that `torch.nn.attention.activate_flash_attention_impl` takes.
    """

    active: str | None
    known: tuple[str, ...]

    @property
    def told(self) -> str | None:
        """What to say of a call that torch's flash kernels serve; None where nothing was activated."""
        if self.active is None:
            return None
        return f"torch's flash kernels (sdpa, varlen) are {self.active}'s, by activate_flash_attention_impl"


def active_flash_implementation() -> FlashSetting:
    """Which flash attention `scaled_dot_product_attention` and `varlen_attn` run where they run one.

    >>> active_flash_implementation().active is None
    True
    """
    current = getattr(attention, "current_flash_attention_impl", None)  # since torch 2.12
    known = getattr(attention, "list_flash_attention_impls", None)
    return FlashSetting(None if current is None else current(), () if known is None else tuple(known()))
