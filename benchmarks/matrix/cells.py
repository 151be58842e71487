"""What comes of each kind of call: exact or refused."""

import sys
from collections.abc import Iterable

import torch

from benchmarks.matrix.calls import KINDS, Kind, Place
from headstock.attention import ALL_ATTENTION_FUNCTIONS, AUTO
from headstock.errors import MissingDependency, UnsupportedFeature

__all__ = ["EXACT", "REFUSED", "SLOW_TO_START", "Cells", "cell", "cells_of", "names"]

EXACT, REFUSED = "exact", "refused"
SLOW_TO_START = ("flex_attention",)
"""Compiles for seconds for each kind of call."""

Cells = dict[str, dict[str, str]]
"""Name of a kind to name of an implementation to one of the two words."""


def names() -> list[str]:
    """The columns."""
    return [AUTO, *sorted(ALL_ATTENTION_FUNCTIONS)]


def cells_of(device: torch.device, columns: Iterable[str]) -> Cells:
    """Every cell of these columns, each run; progress goes to the standard error.

    Raises:
        WrongResult: a call that is neither refused nor right.
    """
    found: Cells = {kind.name: {} for kind in KINDS}
    for name in columns:
        sys.stderr.write(f"{name} on {device}\n")
        for kind in KINDS:
            found[kind.name][name] = cell(kind, Place(name, device))
    return found


def cell(kind: Kind, place: Place) -> str:
    """One of the two words.

    Raises:
        WrongResult: the call is neither refused nor right.
    """
    try:
        kind.run(place)
    except (UnsupportedFeature, MissingDependency):
        return REFUSED
    except Exception as error:
        error.add_note(f"in {kind.name!r} by {place.name} on {place.device}")
        raise
    return EXACT
