"""What is set for one attention module beside its model: another implementation, another mask."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.attention.call import bound_mask
from headstock.attention.table import AttentionInterface
from headstock.errors import UnsupportedFeature
from headstock.masks import Mask, MaskLike, PreparedMask, prepare
from headstock.masks.patterns.documents import Blockwise, Documents
from headstock.masks.patterns.padding import Padding
from headstock.masks.predicate import Conjunction
from headstock.masks.tracing import is_readable
from headstock.registry.settings import Settings

__all__ = ["ATTENTION_SETTINGS", "LayerSettings", "settings_for"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerSettings:
    """What holds for one attention module; None leaves it to the model.

    Attributes:
        implementation: the name of the attention function.
        interface: where the name is looked up, None for where the module looks its own up.
        mask: what may attend to what, as a predicate of absolute indices.
        replaces_mask: whether `mask` stands in the place of the model's pattern; else both hold (`&`).
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
        mask: MaskLike | None,
        query: Float[Tensor, "batch heads queries head_dim"],
        key: Float[Tensor, "batch kv_heads keys head_dim"],
    ) -> MaskLike | None:
        """The mask for this module, `mask` being the model's; layers of one setting share what is made of it.

        Where it replaces the model's, what hides padding and keeps packed documents apart stays. Without a mask of the
        model, queries are aligned with the last keys, as in `headstock.attend`.

        Raises:
            InvalidShape: the mask does not fit the call.
            UnsupportedFeature: the model's mask is to be replaced, and came as a tensor, of which padding cannot be
                told; or the cache has dropped keys that the mask shows.
        """
        own = self.mask
        if own is None:
            return mask
        given = bound_mask(mask, query, key)
        if given is None:
            return own
        make = _replaced if self.replaces_mask else _joined
        if torch.compiler.is_compiling():
            return make(own, given)
        return given._keep((make, own), lambda: make(own, given))


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
    if mask.given is not None:
        raise UnsupportedFeature(
            f"the mask of a layer must be a pattern to be replaced by {own}, got a tensor {list(mask.given.shape)}, "
            "which says padding and pattern in one; join the override to it, or pass padding [batch, keys]"
        )
    predicate = mask.mask.predicate
    operands = predicate.operands if isinstance(predicate, Conjunction) else (predicate,)
    whole = own
    for operand in operands:
        if isinstance(operand, Documents | Padding) and not isinstance(operand, Blockwise):  # those are no packing
            whole = whole & Mask(operand)
    _refuse_dropped(own, whole, mask)
    return prepare(whole, mask.geometry, device=mask.device)


def _refuse_dropped(own: Mask, whole: Mask, mask: PreparedMask) -> None:
    """Refuse a pattern that shows keys which a cache has dropped because the model's own window had passed them."""
    geometry, first = mask.geometry, mask.geometry.kv_offset
    rule = f"a mask that replaces the model's must show no key that the cache has dropped, got {own}"
    advice = "use a cache that keeps every key, or join the pattern to the model's"
    if isinstance(first, Tensor) and not is_readable(first):
        raise UnsupportedFeature(f"{rule} over a cache whose first key cannot be read here; {advice}")
    dropped = int(first.max()) if isinstance(first, Tensor) else first
    if dropped == 0:
        return
    if torch.compiler.is_compiling():
        raise UnsupportedFeature(f"{rule} in compiled code, after keys were dropped; {advice}")
    earlier = replace(geometry, kv_length=dropped, kv_offset=0)
    if bool((prepare(whole, earlier, device=mask.device).seen_keys() > 0).any()):
        raise UnsupportedFeature(f"{rule}, which shows some of the first {dropped}; {advice}")


def _joined(own: Mask, mask: PreparedMask) -> PreparedMask:
    values = mask.given if mask.is_additive else None
    if values is None:
        return prepare(mask.mask & own, mask.geometry, device=mask.device)
    shown = prepare(own, mask.geometry, device=mask.device).dense()
    hidden = torch.full((), torch.finfo(values.dtype).min, dtype=values.dtype, device=values.device)
    return prepare(torch.where(shown, values, hidden), mask.geometry)
