"""Checkpoints in several safetensors files, which an index names; each tensor stands in the file that it says."""

import json
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from headstock.errors import InvalidConfig

__all__ = ["INDEX_SUFFIX", "read_shards"]

INDEX_SUFFIX = ".index.json"


def read_shards(index: Path, read: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of all files that an index names, all beside it.

    Args:
        index: a JSON object whose `weight_map` gives each tensor the name of its file.
        read: what reads one of the files.

    Raises:
        InvalidConfig: the index is not one, or a file is absent or does not hold just the tensors that it says.
    """
    places = _places(index)
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(places.values())):
        found = read(index.parent / shard)
        stated = {name for name, place in places.items() if place == shard}
        odd = sorted(stated ^ found.keys())
        if odd:
            raise InvalidConfig(
                f"{shard} must hold the tensors that {index.name} says, got {odd[0]!r} in one alone; fetch the "
                f"checkpoint again ({index.parent})"
            )
        tensors.update(found)
    return tensors


def _places(index: Path) -> dict[str, str]:
    try:
        content = json.loads(index.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InvalidConfig(f"{index.name} must be a JSON file that can be read, got {error} ({index})") from error
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places:
        raise InvalidConfig(f"{index.name} must have a weight_map from tensors to files, got {places!r} ({index})")
    for name, place in places.items():
        # Another folder's file is not part of this checkpoint, whoever wrote the index.
        if not isinstance(place, str) or Path(place).name != place or place in ("", "..") or "\\" in place:
            raise InvalidConfig(
                f"the weight_map of {index.name} must name files beside it, got {place!r} for {name!r} ({index})"
            )
    return places
