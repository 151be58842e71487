"""What is set for one attention module beside its model: another implementation, another mask."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.attention.call import bound_mask
from headstock.attention.table import AttentionInterface
from headstock.masks import Mask, PreparedMask, prepare
from headstock.registry.settings import Settings

__all__ = ["ATTENTION_SETTINGS", "LayerSettings", "settings_for"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerSettings:
    """What holds for one attention module; None leaves it to the model.

    Attributes:
        implementation: the name of the attention function.
        interface: where the name is looked up, None for where the module looks its own up.
        mask: what may attend to what, as a predicate of absolute indices.
        replaces_mask: whether `mask` stands in the place of the model's mask; else both hold (`&`).
        origin: of each field that says something, where it was set.
        guard: called before a scope is honoured; raises where it could not be.
    """

    implementation: str | None = None
    interface: AttentionInterface | None = None
    mask: Mask | None = None
    replaces_mask: bool = False
    origin: Mapping[str, str] = field(default_factory=dict, repr=False)
    guard: Callable[[], None] | None = field(default=None, repr=False)

    def over(self, below: "LayerSettings") -> "LayerSettings":
        """Field by field, what this says, else what `below` says."""
        named, masked = self.implementation is not None, self.mask is not None
        return LayerSettings(
            implementation=self.implementation if named else below.implementation,
            interface=self.interface if named else below.interface,
            mask=self.mask if masked else below.mask,
            replaces_mask=self.replaces_mask if masked else below.replaces_mask,
            # Text for people, which no graph needs a guard for.
            origin=self.origin if torch.compiler.is_compiling() else {**below.origin, **self.origin},
            guard=self.guard or below.guard,
        )

    def masked(
        self,
        mask: PreparedMask | None,
        query: Float[Tensor, "batch heads queries head_dim"],
        key: Float[Tensor, "batch kv_heads keys head_dim"],
    ) -> PreparedMask | None:
        """The mask for this module, `mask` being the model's; layers of one setting share what is made of it.

        Without a mask of the model, queries are aligned with the last keys, as in `headstock.attend`.

        Raises:
            InvalidShape: the mask does not fit the call.
            InvalidConfig, UnsupportedFeature: as `prepare`.
        """
        own = self.mask
        if own is None:
            return mask
        if mask is None:
            return bound_mask(own, query, key)
        if torch.compiler.is_compiling():
            return _replaced(own, mask) if self.replaces_mask else _joined(own, mask)
        if self.replaces_mask:
            return mask._keep(("replaced", own), lambda: _replaced(own, mask))
        return mask._keep(("joined", own), lambda: _joined(own, mask))


ATTENTION_SETTINGS: Final[Settings[LayerSettings]] = Settings("attention")


def settings_for(module: object) -> LayerSettings | None:
    """What was set for an attention module: in this context by a scope, for good on the module, None for nothing.

    Read at each call of the module's attention, 0.3 µs where nothing is set; compiled code guards it.

    Raises:
        UnsupportedFeature: a scope is open that could not be honoured: the module is recomputed in backward by a
            checkpoint function that does not re-enter scopes.
    """
    found = ATTENTION_SETTINGS.of(module)
    if found is not None and found.guard is not None and not torch.compiler.is_compiling():
        found.guard()
    return found


def _replaced(own: Mask, mask: PreparedMask) -> PreparedMask:
    return prepare(own, mask.geometry, device=mask.device)


def _joined(own: Mask, mask: PreparedMask) -> PreparedMask:
    values = mask.given if mask.is_additive else None
    if values is None:
        return prepare(mask.mask & own, mask.geometry, device=mask.device)
    shown = prepare(own, mask.geometry, device=mask.device).dense()
    hidden = torch.full((), torch.finfo(values.dtype).min, dtype=values.dtype, device=values.device)
    return prepare(torch.where(shown, values, hidden), mask.geometry)
