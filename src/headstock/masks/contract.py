"""The words of this package: what a predicate is, what a representation is, what each answers."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, Union

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

    from headstock.masks.geometry import Geometry
    from headstock.masks.mask import Mask
    from headstock.masks.planning.tiled import TiledPlan
    from headstock.masks.prepared import PreparedMask

#: One index, or a tensor of them: 0-dim under `torch.vmap`, any broadcastable shape otherwise.
Index: TypeAlias = Any

#: What a predicate says, in the form of its indices: True = the query may attend to the key.
Verdict: TypeAlias = Any

#: `(batch_idx, head_idx, q_idx, kv_idx) -> bool` of absolute indices, with scalar meaning.
Predicate: TypeAlias = Callable[[Index, Index, Index, Index], Verdict]

#: What stands for a mask wherever one is taken: a mask, one that is prepared, its text, a function of four indices, a
#: tensor of what may be attended to or of what is added to the scores, and torch's `BlockMask`.
MaskLike: TypeAlias = Union["Mask", "PreparedMask", str, Predicate, Tensor, "BlockMask"]

Device: TypeAlias = torch.device | str | None


class CausalOrDense(NamedTuple):
    """What `scaled_dot_product_attention` takes: a mask to apply, or none and its own `is_causal`."""

    attention_mask: Tensor | None
    is_causal: bool


class CausalOrBlocks(NamedTuple):
    """What block-sparse attention takes: the blocks to compute, or none and `is_causal`; and what to add to scores."""

    blocks: "TiledPlan | None"
    is_causal: bool
    bias: Tensor | None = None


class BlockMaskOrTiles(NamedTuple):
    """What headstock's `flex_attention` takes: the blocks to compute in one of two forms, and what to add to scores."""

    block_mask: "BlockMask | None"
    tiles: "TiledPlan | None"
    bias: Tensor | None = None


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
