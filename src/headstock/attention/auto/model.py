"""The cost model: from the figures of one call to microseconds with one entry."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import torch

from headstock.attention.auto.costs import Cost, Terms, predicted
from headstock.attention.auto.figures import BLOCK, Figures
from headstock.attention.bias.contract import BoundBias, ScoreBias
from headstock.attention.contract import Contract
from headstock.attention.request import Request
from headstock.attention.situation import Situation

__all__ = ["PLAIN", "Profile", "compiles_first", "label_of", "microseconds", "row_of", "terms_of", "way_of"]

_BLOCKS: Final = frozenset(
    {
        *("block_mask", "block_mask_or_tiles", "causal_or_blocks", "plan", "varlen", "varlen_parts", "window"),
        *("flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention"),
    }
)
"""Representations by which only the blocks that hold something are computed."""
_CAUSAL: Final = _BLOCKS | {"causal_or_dense", "sdpa"}
UNFUSED: Final = "unfused"
PLAIN: Final = "plain"
MASKED: Final = "masked"


@dataclass(frozen=True)
class Profile:
    """What is known of one type of device.

    Attributes:
        rows: coefficients, by the words of `row_of`.
        neutral: those of an entry of which nothing is known.
        rough: multiply-adds below which a mask is not looked at: blocks do not pay.
        planned: multiply-adds from which a plan may be made only to choose.
        threads: whether work is divided among torch's threads.
        source: where the numbers come from.
    """

    rows: Mapping[str, Cost]
    neutral: Cost
    rough: float
    planned: float
    threads: bool = False
    source: str = "headstock's own figures"


def label_of(name: str, contract: Contract) -> str:
    """What an entry is called in a profile: one of headstock's own by its own name, others as they are written.

    `name` is what it is registered as.
    """
    function = contract.function
    own = getattr(function, "__name__", name)
    return str(own) if contract.core is not None else f"{getattr(function, '__module__', '?')}.{own}"


def way_of(label: str, situation: Situation, request: Request, figures: Figures) -> str:
    """The path that one of headstock's own functions takes through its kernels; "" for the usual one."""
    on_cpu = situation.device.type == "cpu"
    odd = situation.head_dim != situation.value_dim or request.dropout > 0.0
    if label == "sdpa":
        if situation.is_transformed or (on_cpu and (odd or _learns_bias(request))):
            return UNFUSED
        return MASKED if figures.kind == "some" or request.bias is not None else ""
    if label != "blocked":
        return ""
    features = request.softcap, request.sinks, request.bias
    if figures.kind != "some" and features == (None, None, None) and not request.log_sum_exp:
        return f"{PLAIN} {UNFUSED}" if on_cpu and odd else PLAIN
    return "" if on_cpu and not odd and request.softcap is None else UNFUSED


def _learns_bias(request: Request) -> bool:
    bias = request.bias
    if isinstance(bias, ScoreBias | BoundBias):
        return False
    return bias is not None and bias.requires_grad


def row_of(profile: Profile, label: str, name: str, way: str, situation: Situation) -> Cost:
    """The coefficients of an entry: of its own label, else of its name, whose place it takes, else neutral ones."""
    if way.startswith(PLAIN):
        return row_of(profile, "sdpa", "sdpa", way.removeprefix(PLAIN).strip(), situation)
    half = situation.dtype.itemsize < 4
    for each in (label, name):
        for words, factors in _words(each, way, half=half, training=situation.needs_gradient):
            found = profile.rows.get(words)
            if found is not None:
                return _times(found, *factors)
    return _times(profile.neutral, *(_TRAINING if situation.needs_gradient else _ONCE))


_ONCE: Final = (1.0, 1.0)
_TRAINING: Final = (2.5, 3.0)  # a backward pass has two products for each of the forward pass, and its own launch


def _words(label: str, way: str, *, half: bool, training: bool) -> Iterator[tuple[str, tuple[float, float]]]:
    """Rows that may serve, the nearest first, with factors of their launch and their work."""
    for told in dict.fromkeys((way, "")):
        for size in ("half", "") if half else ("",):
            base = " ".join(filter(None, (label, told, size)))
            if training:
                yield f"{base} training", _ONCE
            yield base, _TRAINING if training else _ONCE


_WORK: Final = ("products", "scores", "traffic", "copied", "rows")


def _times(cost: Cost, launch: float, work: float) -> Cost:
    if launch == work == 1.0:
        return cost
    worked = {name: getattr(cost, name) * work for name in _WORK}
    return replace(cost, launch=cost.launch * launch, **worked)


def terms_of(situation: Situation, representation: str, figures: Figures, *, threads: int = 1) -> Terms:
    """What takes time in a call, for a function that is given the mask in this representation."""
    batch, heads, queries, keys = situation.batch, situation.heads, situation.queries, situation.keys
    sizes = situation.head_dim + situation.value_dim
    some = figures.kind == "some"
    share = figures.share if representation in _BLOCKS or (not some and representation in _CAUSAL) else 1.0
    pairs = batch * heads * queries * keys * share
    size, kv_heads = situation.dtype.itemsize * sizes * batch / 1e6, situation.kv_heads
    rows = 1 if figures.rows else batch
    dense = some or (figures.kind == "causal" and representation not in _CAUSAL)
    entries = rows * queries * keys / 1e6 if dense and representation not in (*_BLOCKS, "none") else 0.0
    blocks = some and representation in _BLOCKS
    is_made = not figures.is_kept and (blocks or figures.tensor == "none")
    return Terms(
        launch=1.0,
        products=pairs * sizes / 1e9 / threads,
        scores=pairs / 1e6 / threads,
        traffic=size * (heads * queries + kv_heads * keys),
        copied=size * heads * keys if heads != kv_heads else 0.0,
        mask=entries,
        making=float(is_made and (blocks or entries > 0.0)),
        made=entries if is_made else 0.0,
        rows=_plan_rows(figures, batch, heads) * -(-queries // BLOCK) / 1e3 if blocks else 0.0,
        first_call=0.0 if situation.is_compiling else 1.0,
    )


def _plan_rows(figures: Figures, batch: int, heads: int) -> int:
    """Rows of a plan: a tensor of all pairs is planned for each head of each batch row."""
    if figures.tensor != "none":
        return batch * heads
    return 1 if figures.rows else batch


def microseconds(
    profile: Profile, name: str, contract: Contract, situation: Situation, request: Request, figures: Figures
) -> float:
    """How long the call takes with one entry, which declares its cost or is found in the profile."""
    label = label_of(name, contract)
    way = way_of(label, situation, request, figures)
    threads = torch.get_num_threads() if profile.threads else 1
    if figures.kind == "causal" and (label == "sdpa" or way.startswith(PLAIN)):
        figures = figures._replace(share=_causal_share(situation, way))
    terms = terms_of(situation, contract.mask, figures, threads=threads)
    if label == "blocked" and figures.kind != "some" and not way.startswith(PLAIN):
        # The mask says no blocks then, and they are planned in each call.
        terms = terms._replace(making=1.0, rows=-(-situation.queries // BLOCK) / 1e3)
    declared = contract.declared and contract.declared.cost
    if isinstance(declared, Cost):
        return predicted(declared, terms)
    found = predicted(row_of(profile, label, name, way, situation), terms)
    return found + 1.0 if way.startswith(PLAIN) else found


def compiles_first(profile: Profile, name: str, contract: Contract, situation: Situation) -> bool:
    """Whether the first call of a kind is known to take a second or more, outside of compiled code."""
    return row_of(profile, label_of(name, contract), name, "", situation).first_call >= 1e6


def _causal_share(situation: Situation, way: str) -> float:
    """What torch computes of a triangle: all where it writes the scores out; on CPUs keys by 512."""
    if UNFUSED in way:
        return 1.0
    return min(1.0, 0.5 + 256 / situation.queries) if situation.device.type == "cpu" else 0.5
