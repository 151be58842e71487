"""A mask bound to its geometry, which makes each representation once."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headstock.errors import InvalidConfig, InvalidShape, UnsupportedFeature
from headstock.masks.contract import CausalOrBlocks, CausalOrDense, Device, Index, MaskLike, Predicate, Verdict
from headstock.masks.evaluation import can_be_read, check_geometry, device_of, evaluate
from headstock.masks.geometry import Geometry
from headstock.masks.given import Given, additive_of, check_given, hidden_of, visible_of
from headstock.masks.mask import Mask
from headstock.masks.node import text_of_value
from headstock.masks.packing import varlen_of, varlen_parts_of
from headstock.masks.planning import BlockPlan, plan
from headstock.masks.planning.counting import seen_keys
from headstock.masks.planning.in_graph import tiled_in_graph
from headstock.masks.planning.tiled import TiledPlan, tiled
from headstock.masks.planning.torch_form import block_mask_of
from headstock.masks.structure import hides_nothing, is_top_left_causal, leaves_no_empty_row
from headstock.masks.torch_blocks import is_block_mask, mask_of_blocks
from headstock.masks.varlen import Varlen
from headstock.masks.windows import KernelWindow, window_of

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

R = TypeVar("R")

MANY_PAIRS = 2**24
"""Pairs of query and key beyond which a plan finds empty rows sooner than all entries do."""


class Lowering:
    """A mask in one geometry. Each representation is made when it is first asked for, and kept.

    What the functions of `representations` work on, and what a `PreparedMask` is.
    """

    def __init__(
        self, source: Mask | Bool[Tensor, "..."] | Float[Tensor, "..."], geometry: Geometry, device: torch.device | None
    ) -> None:
        self._source = source
        self._geometry = geometry
        self._device = device
        self._kept: dict[Any, Any] = {}

    @classmethod
    def of(cls, mask: "MaskLike | Lowering", geometry: Geometry, device: Device = None) -> Self:
        """Bind `mask` to `geometry`; one that is bound to it already is returned as it is.

        Raises:
            InvalidShape: the mask's tensors do not fit the geometry, or a prepared mask was made for another one.
            InvalidComponent: `mask` is neither a mask, nor a tensor, nor a function of four indices.
            InvalidConfig, UnknownName: as `Mask.parse` of a text.
            UnsupportedFeature: the mask's tensors lie on several devices, or a text while compiling.
        """
        if isinstance(mask, cls):
            if mask.geometry is not geometry and mask.geometry != geometry:
                raise InvalidShape(
                    f"a prepared mask must be used in the geometry it was made for, {mask.geometry}, got {geometry}; "
                    "prepare it again"
                )
            return mask
        if isinstance(mask, str):
            mask = Mask.parse(mask)
        if is_block_mask(mask):
            return cls._of_blocks(cast("BlockMask", mask), geometry)
        if isinstance(mask, Tensor):
            return cls(check_given(mask, geometry), geometry, mask.device)
        mask = mask if isinstance(mask, Mask) else Mask(cast("Predicate", mask))
        check_geometry(mask, geometry)
        return cls(mask, geometry, device_of(mask, geometry, device))

    @classmethod
    def _of_blocks(cls, block_mask: "BlockMask", geometry: Geometry) -> Self:
        lowering = cls(mask_of_blocks(block_mask, geometry), geometry, block_mask.kv_num_blocks.device)
        q_size, kv_size = block_mask.BLOCK_SIZE
        for size in (None, (q_size, kv_size), q_size if q_size == kv_size else None):
            lowering._kept["block_mask", size] = block_mask
        return lowering

    @property
    def geometry(self) -> Geometry:
        """The extent it was prepared for."""
        return self._geometry

    @property
    def device(self) -> torch.device | None:
        """Where its representations lie; None: torch's default device."""
        return self._device

    @property
    def given(self) -> Tensor | None:
        """The tensor that it was given as, None for a mask that is a predicate."""
        return self._source if isinstance(self._source, Tensor) else None

    @property
    def is_additive(self) -> bool:
        """Whether it was given as a float tensor, whose values are added to the scores."""
        return self._values is not None

    @property
    def _values(self) -> Tensor | None:
        return self._source if isinstance(self._source, Tensor) and self._source.dtype != torch.bool else None

    @property
    def mask(self) -> Mask:
        """The mask as a predicate; one that was given as a tensor indexes it.

        Raises:
            UnsupportedFeature: it was given as a float tensor that says more than "may attend" and "may not".
        """
        if isinstance(self._source, Mask):
            return self._source
        return self._keep("mask", lambda: Mask(Given(self.dense(), self._geometry)))

    def __call__(self, batch_idx: Index, head_idx: Index, q_idx: Index, kv_idx: Index) -> Verdict:
        """Say whether the query may attend to the key."""
        return self.mask(batch_idx, head_idx, q_idx, kv_idx)

    def dense(self) -> Bool[Tensor, "rows heads queries keys"]:
        """See `to_dense`."""
        return self._keep("dense", self._dense)

    def additive(self, dtype: torch.dtype) -> Float[Tensor, "rows heads queries keys"]:
        """See `to_additive`."""
        if not dtype.is_floating_point:
            raise InvalidConfig(f"an additive mask must have a floating dtype, got {dtype}; pass that of the query")
        return self._keep(("additive", dtype), lambda: self._additive(dtype))

    def causal_or_dense(self, dtype: torch.dtype | None = None) -> CausalOrDense:
        """See `to_causal_or_dense`."""
        if self._values is not None:
            return CausalOrDense(self._values if dtype is None else self.additive(dtype), False)
        return self._keep("causal_or_dense", self._causal_or_dense)

    def plan(self, block_size: int | tuple[int, int] = 128) -> BlockPlan:
        """See `headstock.masks.plan`: one plan for each block size, however many layers ask for it."""
        return self._keep(
            ("plan", block_size), lambda: plan(self.mask, self._geometry, block_size, device=self._device)
        )

    def tiled_plan(self, block_size: int = 128) -> TiledPlan:
        """The plan with the entries of its partial blocks."""
        return self._keep(("tiled_plan", block_size), lambda: self._tiled_plan(block_size))

    def causal_or_blocks(self, dtype: torch.dtype | None = None) -> CausalOrBlocks:
        """See `to_causal_or_blocks`."""
        if self._values is not None:
            values = self._values if dtype is None else self.additive(dtype)
            shown = Mask(Given(~hidden_of(self._values), self._geometry))
            return CausalOrBlocks(Lowering(shown, self._geometry, self._device).tiled_plan(), False, values)
        known = self.without_tensor()
        if known is not None:
            return CausalOrBlocks(None, known.is_causal)
        return CausalOrBlocks(self.tiled_plan(), False)

    def block_mask(self, block_size: int | tuple[int, int] = 128) -> "BlockMask":
        """See `to_block_mask`."""
        return self._keep(
            ("block_mask", block_size), lambda: block_mask_of(self.mask, self.plan(block_size), self._device)
        )

    def known_block_mask(self, block_size: int | tuple[int, int] | None = 128) -> "BlockMask | None":
        """The `BlockMask` of such blocks, if one was given or made already; None: the one that was given."""
        return cast("BlockMask | None", self._kept.get(("block_mask", block_size)))

    def varlen(self) -> Varlen:
        """See `to_varlen`."""
        return self._keep("varlen", lambda: varlen_of(self._packable(), self._geometry, self._device))

    def varlen_parts(self) -> tuple[Varlen, ...]:
        """See `to_varlen_parts`."""
        return self._keep("varlen_parts", lambda: varlen_parts_of(self._packable(), self._geometry, self._device))

    def window(self) -> KernelWindow:
        """See `to_window`."""
        return self._keep("window", lambda: window_of(self._predicate("a kernel's window"), self._geometry))

    def seen_keys(self) -> Int[Tensor, "rows heads queries"]:
        """The number of keys that each query sees, `[batch | 1, heads | 1, queries]`, on the CPU."""
        return self._keep("seen_keys", lambda: seen_keys(self.mask, self.plan(), self._device))

    def empty_rows(self) -> Bool[Tensor, "rows heads queries"] | None:
        """True for a query that sees no key, `[batch | 1, heads | 1, queries]`; None where there surely is none."""
        return self._keep("empty_rows", self._empty_rows)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({text_of_value(self._source)}, {self._geometry!r})"

    def _packable(self) -> Mask:
        return self._predicate("cumulative lengths")

    def _predicate(self, what: str) -> Mask:
        if isinstance(self._source, Mask):
            return self._source
        raise UnsupportedFeature(
            f"a mask must be written as patterns to become {what}, got a tensor, {text_of_value(self._source)}; "
            "say it as a Mask, such as `causal() & documents(ids)`"
        )

    def _tiled_plan(self, block_size: int) -> TiledPlan:
        if torch.compiler.is_compiling():
            return tiled_in_graph(self.mask, self._geometry, block_size, self._device)
        return tiled(self.mask, self.plan(block_size), self._device)

    def _dense(self) -> Tensor:
        if isinstance(self._source, Tensor):
            return self._source if self._values is None else visible_of(self._values)
        verdict = evaluate(self._source, self._geometry, self._device)
        return verdict.expand(-1, -1, self._geometry.q_length, self._geometry.kv_length)

    def _additive(self, dtype: torch.dtype) -> Tensor:
        if self._values is not None:
            return additive_of(self._values, dtype)
        dense = self.dense()
        hidden = torch.full((), torch.finfo(dtype).min, dtype=dtype, device=dense.device)
        return torch.where(dense, torch.zeros_like(hidden), hidden)

    def without_tensor(self) -> CausalOrDense | None:
        """What says the mask without a tensor, read from its structure; None where it needs one."""
        if isinstance(self._source, Mask):
            if hides_nothing(self._source.predicate, self._geometry):
                return CausalOrDense(None, False)
            if is_top_left_causal(self._source.predicate, self._geometry):
                return CausalOrDense(None, True)
        return None

    def _causal_or_dense(self) -> CausalOrDense:
        return self.without_tensor() or CausalOrDense(self.dense(), False)

    def _empty_rows(self) -> Tensor | None:
        geometry = self._geometry
        if isinstance(self._source, Mask) and leaves_no_empty_row(self._source.predicate, geometry):
            return None
        if self._values is not None:
            return hidden_of(self._values).all(-1)
        pairs = geometry.q_length * geometry.kv_length
        if "dense" not in self._kept and can_be_read(self.mask, self._device) and pairs > MANY_PAIRS:
            return (self.seen_keys() == 0).to(self._device)
        return ~self.dense().any(-1)

    def _keep(self, key: object, make: Callable[[], R]) -> R:
        # A tensor that carries gradients belongs to one backward pass, and is made anew.
        if isinstance(self._source, Tensor) and self._source.requires_grad:
            return make()
        if key not in self._kept:
            self._kept[key] = make()
        return cast(R, self._kept[key])
