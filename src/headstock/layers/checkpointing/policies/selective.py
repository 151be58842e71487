"""`selective`: the results of chosen operations are kept, all others are recomputed."""

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch._ops import HigherOrderOperator, OpOverload, OpOverloadPacket
from torch.utils.checkpoint import CheckpointPolicy as Decision
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from headstock.errors import InvalidConfig, UnsupportedFeature
from headstock.layers.checkpointing.contract import CheckpointFunction, Layers

__all__ = ["KEPT_OPERATIONS", "SelectiveCheckpoint", "selective"]

Operation: TypeAlias = OpOverload[..., Any] | OpOverloadPacket[..., Any] | HigherOrderOperator

_ATEN = (
    # products of matrices and convolutions
    *("mm", "addmm", "bmm", "baddbmm", "addbmm", "mv", "addmv", "linear", "convolution"),
    *("_scaled_mm", "_grouped_mm", "_scaled_grouped_mm"),
    # attention, as torch's kernels for the different devices call it
    *("_scaled_dot_product_flash_attention", "_scaled_dot_product_flash_attention_for_cpu"),
    *("_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention"),
    *("_scaled_dot_product_fused_attention_overrideable", "_scaled_dot_product_attention_math_for_mps"),
    *("_flash_attention_forward", "_efficient_attention_forward", "_cudnn_attention_forward"),
)
KEPT_OPERATIONS: tuple[Operation, ...] = (
    *(getattr(torch.ops.aten, name) for name in _ATEN if hasattr(torch.ops.aten, name)),
    torch.ops.higher_order.flex_attention,
)
"""What `selective` keeps unless told otherwise: products of matrices, convolutions and attention."""


def selective(
    layers: Layers, *, ops: Iterable[Operation] = KEPT_OPERATIONS, use_reentrant: bool = False
) -> dict[str, CheckpointFunction]:
    """Checkpoint every layer, but keep the results of expensive operations and recompute only the cheap ones.

    An attention operation that is called with dropout is recomputed all the same: skipping it would shift the random
    numbers of what is recomputed after it.

    Source: Korthikanti et al., Reducing Activation Recomputation in Large Transformer Models, arXiv:2205.05198.

    Args:
        layers: the model's checkpointing layers by name.
        ops: the operators whose results are kept, such as `torch.ops.aten.mm` (all its overloads) or one overload.
        use_reentrant: must be False; torch selects operations in its other mode only.

    Raises:
        UnsupportedFeature: `use_reentrant` is True.
        InvalidConfig: `ops` holds something else than operators, or one that draws random numbers.

    Example:
        >>> import torch
        >>> from headstock.layers.checkpointing.policies import selective
        >>> selective({"layers.0": None}, ops=[torch.ops.aten.mm.default])
        {'layers.0': SelectiveCheckpoint(aten.mm.default)}
    """
    if use_reentrant:
        raise UnsupportedFeature(
            "checkpoint policy 'selective' must run with use_reentrant=False, got True; leave it out"
        )
    kept = frozenset(overload for operation in ops for overload in _overloads(operation))
    return dict.fromkeys(layers, SelectiveCheckpoint(kept))


@dataclass(frozen=True, repr=False)
class SelectiveCheckpoint:
    """Non-reentrant checkpointing that keeps the results of the operations `kept`."""

    kept: frozenset[Any]

    def __call__(self, function: Callable[..., Any], /, *tensors: Tensor) -> Any:
        """What `function(*tensors)` returns."""
        contexts = functools.partial(create_selective_checkpoint_contexts, functools.partial(_decide, self.kept))
        return checkpoint(function, *tensors, use_reentrant=False, context_fn=contexts)

    def __repr__(self) -> str:
        return f"SelectiveCheckpoint({', '.join(self._names())})"

    def _names(self) -> list[str]:
        return sorted(map(str, self.kept))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self._names(),)  # operators do not pickle


def _restored(names: list[str]) -> SelectiveCheckpoint:
    return SelectiveCheckpoint(frozenset(functools.reduce(getattr, _path(name), torch.ops) for name in names))


def _path(name: str) -> list[str]:
    return name.split(".") if "." in name else ["higher_order", name]


def _decide(kept: frozenset[Any], _: object, operation: Any, /, *args: Any, **keywords: Any) -> Decision:
    if operation in kept and not _drops_out(operation, args, keywords):
        return Decision.MUST_SAVE
    return Decision.PREFER_RECOMPUTE


def _drops_out(operation: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> bool:
    place = _dropout_place(operation)
    if place is None:
        return False
    return bool(keywords.get("dropout_p", args[place] if place < len(args) else 0.0))


def _dropout_place(operation: Any) -> int | None:
    if isinstance(operation, HigherOrderOperator):
        return None
    names = [argument.name for argument in operation._schema.arguments]
    return names.index("dropout_p") if "dropout_p" in names else None


def _overloads(operation: object) -> Iterator[Any]:
    """The overloads that an entry of `ops` stands for, without those that write to an argument."""
    if isinstance(operation, OpOverloadPacket):
        overloads = [getattr(operation, name) for name in operation.overloads()]
        yield from (each for overload in overloads if not overload._schema.is_mutable for each in _overloads(overload))
    elif isinstance(operation, HigherOrderOperator):
        yield operation
    elif isinstance(operation, OpOverload):
        if torch.Tag.nondeterministic_seeded in operation.tags and _dropout_place(operation) is None:
            raise InvalidConfig(
                f"ops of selective must repeat the same result, got {operation}, which draws random numbers; leave it "
                "out: it is recomputed with the same ones"
            )
        yield operation
    else:
        raise InvalidConfig(
            f"ops of selective must be operators such as torch.ops.aten.mm, got {operation!r}; functions call several"
        )
