"""A plan that is made while a compiled graph runs: one operator, which is told the mask as its text and its tensors."""

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from headstock.errors import UnsupportedFeature
from headstock.masks.contract import Predicate
from headstock.masks.geometry import Geometry
from headstock.masks.given import Given
from headstock.masks.mask import Mask
from headstock.masks.node import text_of
from headstock.masks.planning.plan import plan
from headstock.masks.planning.tiled import TiledPlan, tiled
from headstock.masks.predicate import Conjunction, Disjunction, Negation, Pattern
from headstock.masks.text import parse_mask

__all__ = ["tiled_in_graph"]


def tiled_in_graph(mask: Mask, geometry: Geometry, block_size: int, device: torch.device | None) -> TiledPlan:
    """The tiled plan of a mask that is built of patterns, for a graph that is being made.

    Raises:
        UnsupportedFeature: the mask holds a plain function, which no operator can be given.
    """
    tensors: list[Tensor] = []
    text = _written(mask.predicate, tensors)
    q_offset, kv_offset = geometry.q_offset, geometry.kv_offset
    found = _tile_mask(
        text,
        tensors,
        [geometry.batch_size, geometry.q_length, geometry.kv_length, geometry.heads],
        [block_size, *(0 if isinstance(each, Tensor) else each for each in (q_offset, kv_offset))],
        q_offset if isinstance(q_offset, Tensor) else None,
        kv_offset if isinstance(kv_offset, Tensor) else None,
        torch.device("cpu") if device is None else device,
    )
    return TiledPlan(*found)


def _written(predicate: Predicate, tensors: list[Tensor]) -> str:
    """A predicate in the text form, its tensors by their number in `tensors`."""
    if isinstance(predicate, Conjunction | Disjunction):
        join = " & " if isinstance(predicate, Conjunction) else " | "
        return "(" + join.join([_written(each, tensors) for each in predicate.operands]) + ")"
    if isinstance(predicate, Negation):
        return "~" + _written(predicate.operand, tensors)
    if isinstance(predicate, Given):
        tensors.append(predicate.entries)
        return f"given(t{len(tensors) - 1})"
    if not isinstance(predicate, Pattern) or _patterns_by_name().get(predicate.name) is not type(predicate):
        raise UnsupportedFeature(
            f"a mask must be built of patterns to be planned in compiled code, got {text_of(predicate)}; prepare it "
            "outside, where `prepare(mask, geometry).tiled_plan()` plans it, and pass what is prepared"
        )
    # Not `fields`, whose markers dynamo cannot trace.
    names: tuple[str, ...] = predicate.__match_args__
    values = [f"{name}={_text_of(getattr(predicate, name), tensors)}" for name in names]
    return f"{predicate.name}({', '.join(values)})"


def _text_of(value: Any, tensors: list[Tensor]) -> str:
    if isinstance(value, Tensor):
        tensors.append(value)
        return f"t{len(tensors) - 1}"
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _patterns_by_name() -> dict[str, type[Pattern]]:
    found, known = {}, [Pattern]
    for pattern in known:
        known += pattern.__subclasses__()
        # Several hold the data of one call, which their text does not: they go by this name.
        if vars(pattern).get("name", "given") != "given":
            found[pattern.name] = pattern
    return found


@torch.library.custom_op(
    "headstock::tile_mask",
    mutates_args=(),
    schema="(str text, Tensor[] tensors, SymInt[] extent, SymInt[] numbers, Tensor? q_offset, Tensor? kv_offset, "
    "Device device) -> (Tensor, Tensor, Tensor, Tensor)",
)
def _tile_mask(
    text: str,
    tensors: list[Tensor],
    extent: list[int],
    numbers: list[int],
    q_offset: Tensor | None,
    kv_offset: Tensor | None,
    device: torch.device,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`text` planned and tiled; `extent` and `numbers` are those of a `Geometry`, and the block size."""
    batch_size, q_length, kv_length, heads = extent
    block_size, q_first, kv_first = numbers
    geometry = Geometry(
        batch_size,
        q_length,
        kv_length,
        q_first if q_offset is None else q_offset,
        kv_first if kv_offset is None else kv_offset,
        heads,
    )
    patterns = {name: _maker(pattern) for name, pattern in _patterns_by_name().items()}
    patterns["given"] = lambda entries: Mask(Given(entries, geometry))
    mask = parse_mask(text, patterns, {f"t{number}": tensor for number, tensor in enumerate(tensors)})
    # An operator must not hand on what it was given.
    return tuple(each.clone() for each in tiled(mask, plan(mask, geometry, block_size, device=device), device))  # type: ignore[return-value]


def _maker(pattern: type[Pattern]) -> Any:
    def make(*arguments: Any, **keywords: Any) -> Mask:
        return Mask(pattern(*map(_hashable, arguments), **{key: _hashable(value) for key, value in keywords.items()}))

    return make


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@_tile_mask.register_fake
def _(
    text: str,  # noqa: ARG001
    tensors: list[Tensor],  # noqa: ARG001
    extent: list[int],
    numbers: list[int],
    q_offset: Tensor | None,  # noqa: ARG001
    kv_offset: Tensor | None,  # noqa: ARG001
    device: torch.device,
) -> tuple[Int[Tensor, "batch_rows heads q_blocks_and_one"], Tensor, Tensor, Tensor]:
    context = torch.library.get_ctx()
    rows, heads, blocks, tiles = (context.new_dynamic_size() for _ in range(4))
    size = numbers[0]
    q_blocks = -(-extent[1] // size)
    return (
        torch.empty(rows, heads, q_blocks + 1, dtype=torch.int64),
        torch.empty(blocks, dtype=torch.int64),
        torch.empty(blocks, dtype=torch.int64),
        torch.empty(tiles, size, size, dtype=torch.bool, device=device),
    )
