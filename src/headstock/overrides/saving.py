"""Overrides in the metadata of a safetensors file, with where each component came from and what it ran under."""

import json
import platform
import warnings
from collections.abc import Iterator, Mapping, MutableMapping
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from typing import Any

from headstock.errors import ConfigWarning, InvalidConfig
from headstock.overrides.components import components_of
from headstock.overrides.data import Overrides
from headstock.overrides.files import read_json
from headstock.overrides.resolving import Tables
from headstock.overrides.safetensors_file import read_metadata, write_metadata

__all__ = ["METADATA_KEY", "SetupWarning", "load_overrides", "overrides_metadata", "save_overrides"]

METADATA_KEY = "headstock.overrides"
"""The key of the metadata under which overrides lie, as one JSON object."""

_FORMAT = 1
_PACKAGES = ("headstock", "torch", "transformers")


class SetupWarning(ConfigWarning):
    """Overrides that were saved under another set-up than the one that loads them.

    Attributes:
        differences: a phrase each.
    """

    def __init__(self, differences: tuple[str, ...]) -> None:
        self.differences = differences
        super().__init__(
            "overrides should be loaded under the set-up that they were saved under, got "
            f"{'; '.join(differences)}; results may differ"
        )


def overrides_metadata(overrides: Overrides, *, tables: Tables | None = None) -> dict[str, str]:
    """What `save_overrides` writes: metadata for a safetensors file, with versions and where each component lies.

    Nothing of the machine is in it, no path and no name of a user.

    Raises:
        UnknownName: a component is not registered.

    Example:
        >>> from headstock.overrides import Overrides, overrides_metadata
        >>> list(overrides_metadata(Overrides(attention="eager")))
        ['headstock.overrides']
    """
    record = {
        "format": _FORMAT,
        "overrides": overrides.to_dict(),
        "versions": _versions(),
        "components": components_of(overrides, tables or Tables()),
    }
    return {METADATA_KEY: json.dumps(record, ensure_ascii=False, sort_keys=True)}


def save_overrides(
    target: str | PathLike[str] | MutableMapping[str, str], overrides: Overrides, *, tables: Tables | None = None
) -> None:
    """Write overrides into the metadata of a safetensors file, or into metadata that you will write yourself.

    The file's tensors and its other metadata stay as they are; it appears whole or not at all, and one that is being
    read stays as it was for its readers.

    Args:
        target: an existing `.safetensors` file, or a dict of metadata.
        overrides: what to save, in the place of what was saved before.
        tables: where the names are looked up; the shared tables otherwise.

    Raises:
        InvalidConfig: the file is no safetensors file.
        UnknownName: a component is not registered.
    """
    added = overrides_metadata(overrides, tables=tables)
    if isinstance(target, MutableMapping):
        target.update(added)
        return
    write_metadata(Path(target), added)


def load_overrides(
    source: str | PathLike[str] | Mapping[str, str], *, tables: Tables | None = None
) -> Overrides | None:
    """The overrides that `save_overrides` wrote into a safetensors file, or metadata; None where there are none.

    Args:
        source: the file, or its metadata.
        tables: where the names are looked up; the shared tables otherwise.

    Raises:
        InvalidConfig: the file is no safetensors file, or the record is not of this format.
        UnknownName: a component is not registered here.

    Warns:
        SetupWarning: versions or components differ from those that the overrides were saved with.
    """
    metadata = source if isinstance(source, Mapping) else read_metadata(Path(source))
    text = metadata.get(METADATA_KEY)
    if text is None:
        return None
    record = _record(text)
    overrides = Overrides.from_dict(record["overrides"])
    found = components_of(overrides, tables or Tables())
    differences = (*_differences("", record["versions"], _versions()), *_moved(record["components"], found))
    if differences:
        warnings.warn(SetupWarning(differences), stacklevel=2)
    return overrides


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def _record(text: str) -> dict[str, Any]:
    record = read_json(text)
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        came = record.get("format") if isinstance(record, dict) else type(record).__name__
        raise InvalidConfig(f"saved overrides must be of format {_FORMAT}, got {came!r}; a newer headstock wrote them")
    for field in ("overrides", "versions", "components"):
        if not isinstance(record.get(field), dict):
            raise InvalidConfig(f"saved overrides must hold the field {field!r}, an object, got {record.get(field)!r}")
    return record


def _moved(saved: dict[str, Any], found: dict[str, dict[str, str]]) -> Iterator[str]:
    for kind, names in found.items():
        before = saved.get(kind)
        yield from _differences(f"{kind} ", before if isinstance(before, dict) else {}, names)


def _differences(what: str, saved: Mapping[str, Any], found: Mapping[str, str]) -> Iterator[str]:
    for name, value in found.items():
        if saved.get(name) != value:
            yield f"{what}{name} {value}, saved with {saved.get(name)}"
