"""A look-up by name through one overlay and through three, with and without a scope open in the running context."""

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from transformers.modeling_utils import AttentionInterface as TransformersInterface

from benchmarks.compare import Contestant, Result, Settings, Target, compared, interleaved
from headstock import ALL_MASK_PATTERNS, AttentionInterface

__all__ = ["run"]

NAME = "sdpa"
NANOSECOND = 1e-9


def run(settings: Settings) -> list[Result]:
    """Look-ups of a shared entry; the overlays on the way hold another name, as a model's would."""
    one, three = _nested(1), _nested(3)
    results = _raced(settings, "one overlay", one, 150) + _raced(settings, "three overlays", three, 400)
    with ALL_MASK_PATTERNS.override(causal=ALL_MASK_PATTERNS["causal"]):
        results += _raced(settings, "one overlay, a scope open over another table", one, None)
        results += _raced(settings, "three overlays, a scope open over another table", three, None)
    with one.override(sdpa=one["eager"]):
        results += _raced(settings, "one overlay, a scope open over it, another function found", one, None)
    return results


def _nested(depth: int) -> AttentionInterface:
    overlay = AttentionInterface()
    for _ in range(depth - 1):
        overlay["local"] = overlay["eager"]
        overlay = AttentionInterface(parent=overlay)
    overlay["own"] = overlay["eager"]
    return overlay


def _raced(settings: Settings, case: str, overlay: AttentionInterface, most: float | None) -> list[Result]:
    depth = 3 if case.startswith("three") else 1
    plain = dict(overlay)
    layers: list[dict[str, Any]] = [{f"own {index}": plain["eager"]} for index in range(depth)]
    theirs = TransformersInterface()
    theirs["own"] = plain["eager"]
    tables: dict[str, Mapping[str, Any]] = {
        "headstock": overlay,
        "transformers AttentionInterface": theirs,
        f"ChainMap of {depth + 1}": ChainMap(*layers, plain),
        "dict": plain,
    }
    contestants = [Contestant(name, f"table[{NAME!r}]", {"table": held}) for name, held in tables.items()]
    # A millisecond is often over before another process takes the core.
    settings = replace(settings, seconds=min(settings.seconds, 1e-3))
    targets = {} if most is None else {"transformers AttentionInterface": Target(most * NANOSECOND, of="value")}
    return compared("lookup", case, interleaved(contestants, settings), targets=targets)
