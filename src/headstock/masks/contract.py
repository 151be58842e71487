"""The words of this package: what a predicate is, what a representation is, what each answers."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

if TYPE_CHECKING:
    from headstock.masks.geometry import Geometry
    from headstock.masks.mask import Mask
    from headstock.masks.prepared import PreparedMask

#: One index, or a tensor of them: 0-dim under `torch.vmap`, any broadcastable shape otherwise.
Index: TypeAlias = Any

#: What a predicate says, in the form of its indices: True = the query may attend to the key.
Verdict: TypeAlias = Any

#: `(batch_idx, head_idx, q_idx, kv_idx) -> bool` of absolute indices, with scalar meaning.
Predicate: TypeAlias = Callable[[Index, Index, Index, Index], Verdict]

Device: TypeAlias = torch.device | str | None


class CausalOrDense(NamedTuple):
    """What `scaled_dot_product_attention` takes: a mask to apply, or none and its own `is_causal`."""

    attention_mask: Tensor | None
    is_causal: bool


class MaskRepresentation(Protocol):
    """A function from a mask and a geometry to one representation, exact or refused."""

    def __call__(
        self, mask: "Mask | PreparedMask", geometry: "Geometry", *, dtype: torch.dtype, device: torch.device | None
    ) -> Any:
        """Represent `mask` in `geometry`; `dtype` is that of the query, `device` where the mask lies."""


class MaskPattern(Protocol):
    """A function of a pattern's own arguments that returns a `Mask`."""

    def __call__(self, *arguments: Any, **keywords: Any) -> "Mask":
        """Make the mask."""
