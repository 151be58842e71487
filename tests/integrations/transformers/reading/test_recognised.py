"""transformers' closures are read as patterns that say the same of every quadruple."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import masking_utils as theirs

from headstock.integrations.transformers.reading import mask_of_function
from headstock.masks import Geometry, causal, prepare, sliding_window
from headstock.masks.predicate import Pattern, leaves

ROWS, TOKENS = 2, 12
IDS = torch.tensor([[0] * 5 + [1] * 7, [0] * 2 + [1] * 4 + [2] * 6])
POSITIONS = torch.tensor([[*range(5), *range(7)], [*range(2), *range(4), *range(6)]])
JUMPING = POSITIONS * 2
BLOCKS = torch.tensor([[-1] * 3 + [0] * 4 + [-1] * 2 + [1] * 3, [-1] * 12])
START = torch.tensor([0, 3])
KEEP = torch.tensor([[1] * 12, [0] * 5 + [1] * 7]).bool()


def packed_before_5_23(function: Any, _positions: Tensor, ids: Tensor) -> Any:
    """What older versions make of packed sequences."""
    return theirs.and_masks(theirs.packed_sequence_mask_function(ids), function)


packed = getattr(theirs, "packed_sequence_compatibility_function", packed_before_5_23)

READ: dict[str, tuple[Callable[..., Any], str | None]] = {
    "causal": (theirs.causal_mask_function, "causal()"),
    "bidirectional": (theirs.bidirectional_mask_function, "bidirectional()"),
    "window": (theirs.sliding_window_causal_mask_function(3), "sliding_window(size=3)"),
    "open window": (theirs.sliding_window_overlay(3), None),
    "window on both sides": (theirs.sliding_window_bidirectional_mask_function(2), "sliding_window(size=3, right=2)"),
    "chunks": (theirs.chunked_causal_mask_function(4, START), "causal() & chunked(size=4, start=int64[2])"),
    "blocks": (
        theirs.or_masks(theirs.causal_mask_function, theirs.blockwise_overlay(BLOCKS)),
        "causal() | blockwise(ids=int64[2, 12])",
    ),
    "packed": (
        packed(theirs.causal_mask_function, POSITIONS, IDS),
        "documents(ids=int64[2, 12]) & causal()",
    ),
    "packed window": (
        packed(theirs.sliding_window_causal_mask_function(3), POSITIONS, IDS),
        "documents(ids=int64[2, 12]) & sliding_window(size=3)",
    ),
    "padding": (
        theirs.and_masks(theirs.causal_mask_function, theirs.padding_mask_function(KEEP)),
        "causal() & padding(keep=bool[2, 12])",
    ),
    "window within blocks": (
        theirs.and_masks(
            theirs.or_masks(theirs.causal_mask_function, theirs.blockwise_overlay(BLOCKS)),
            theirs.sliding_window_bidirectional_overlay(4),
        ),
        None,
    ),
    "shifted": (lambda b, h, q, kv: kv + 1 <= q, None),
    "strictly within": (lambda b, h, q, kv: (q - kv).abs() < 3, "sliding_window(size=3, right=2)"),
    "turned": (lambda b, h, q, kv: ~(kv > q), None),
    "equal": (lambda b, h, q, kv: q == kv, "sliding_window(size=1)"),
    "unequal": (lambda b, h, q, kv: q != kv, None),
    "itself": (lambda b, h, q, kv: q - q <= 0, "bidirectional()"),
    "nothing": (theirs.or_masks(), None),
    "twice the distance": (lambda b, h, q, kv: (kv >= q - 4) & (kv - q < 3), "sliding_window(size=5, right=2)"),
}
if packed is not packed_before_5_23:
    READ["packed, positions that jump"] = (packed(theirs.sliding_window_causal_mask_function(3), JUMPING, IDS), None)

# What is no pattern, or cannot be asked with terms: it is run as the plain function that it is.
PLAIN: dict[str, Callable[..., Any]] = {
    "parity": lambda b, h, q, kv: q % 2 == kv % 2,
    "head": lambda b, h, q, kv: kv <= q + h,
    "a branch": lambda b, h, q, kv: kv <= q if q > 3 else q >= 0,
    "another function of torch": lambda b, h, q, kv: torch.minimum(q, kv) >= 0,
    "rows compared": lambda b, h, q, kv: IDS[b, q] == POSITIONS[b, kv],
    "ids from one on": lambda b, h, q, kv: IDS[b, q] >= 1,
    "both turned": lambda b, h, q, kv: q + kv <= 4,
    "chunks of two sizes": lambda b, h, q, kv: q // 3 == kv // 4,
    "no boolean": lambda b, h, q, kv: q,
    "positions of another row": lambda b, h, q, kv: POSITIONS[0, kv] <= POSITIONS[0, q],
}


def dense(mask: Any) -> Tensor:
    return prepare(mask, Geometry(ROWS, TOKENS, TOKENS)).dense().expand(ROWS, 1, TOKENS, TOKENS)


def by_quadruple(function: Callable[..., Any]) -> Tensor:
    """The definition: one call for each quadruple."""
    said = [
        [[bool(function(*map(torch.tensor, (b, 0, q, kv)))) for kv in range(TOKENS)] for q in range(TOKENS)]
        for b in range(ROWS)
    ]
    return torch.tensor(said)[:, None]


@pytest.mark.parametrize("name", READ)
def test_a_read_mask_says_the_same_of_every_quadruple(name: str) -> None:
    function, text = READ[name]
    mask = mask_of_function(function)
    assert mask is not None
    assert text is None or repr(mask) == text
    assert all(isinstance(leaf, Pattern) for leaf in leaves(mask.predicate))
    assert torch.equal(dense(mask), by_quadruple(function))


@pytest.mark.parametrize("name", READ)
def test_a_read_mask_is_planned_as_it_is(name: str) -> None:
    mask = mask_of_function(READ[name][0])
    assert mask is not None
    geometry = Geometry(ROWS, TOKENS, TOKENS)
    plan = prepare(mask, geometry).plan(block_size=4)
    blocks = dense(mask).unflatten(2, (-1, 4)).unflatten(4, (-1, 4))
    shown, full = blocks.any(5).any(3), blocks.all(5).all(3)
    seen = (plan.full | plan.partial).expand_as(shown)
    assert bool((seen | ~shown).all()), "no block that shows something is left out"
    assert bool((full | ~plan.full).all()), "no block is called full that is not"


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_no_pattern_is_left_to_be_called(name: str) -> None:
    assert mask_of_function(PLAIN[name]) is None


def test_a_mask_is_itself() -> None:
    mask = causal() & sliding_window(3)
    assert mask_of_function(mask) is mask


@pytest.mark.parametrize("name", ["chunks", "blocks", "packed window"])
def test_they_are_read_while_a_graph_is_made(name: str) -> None:
    function = READ[name][0]

    def reading(tensor: Tensor) -> Tensor:
        mask = mask_of_function(function)
        return tensor + (0 if mask is None else 1)

    assert float(torch.compile(reading, fullgraph=True, backend="eager")(torch.zeros(()))) == 1


@pytest.mark.parametrize("before", [False, True])
def test_functions_without_a_closure_are_read_once_and_in_every_graph(before: bool) -> None:
    if before:
        assert mask_of_function(theirs.causal_mask_function) is mask_of_function(theirs.causal_mask_function)

    def reading(x: Tensor) -> Tensor:
        masks = [mask_of_function(each) for each in (theirs.causal_mask_function, theirs.bidirectional_mask_function)]
        return x + len([mask for mask in masks if mask is not None])

    assert float(torch.compile(reading, fullgraph=True, backend="eager")(torch.zeros(()))) == 2
    assert repr(mask_of_function(theirs.causal_mask_function)) == "causal()"
