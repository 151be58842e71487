"""Which cost table holds for a type of device: what was measured on this machine, else headstock's own figures."""

import os
import warnings
from pathlib import Path
from typing import Final

from headstock.attention.auto.defaults import CPU, CUDA
from headstock.attention.auto.model import Profile
from headstock.errors import InvalidConfig
from headstock.registry import CHANGES

__all__ = ["VARIABLE", "default_profile", "forget_read", "path_of_table", "profile_of"]

VARIABLE: Final = "HEADSTOCK_TUNED"
"""The environment variable that names the file of measurements; empty: none is read."""

_READ: dict[str, Profile] = {}


def profile_of(device: str) -> Profile:
    """The cost table of a type of device; the file of measurements is read at the first question, once a process.

    Example:
        >>> profile_of("cpu") is profile_of("cpu")
        True
    """
    found = _READ.get(device)
    return _read(device) if found is None else found


def default_profile(device: str) -> Profile:
    """What holds where nothing was measured; other accelerators are taken for a CUDA card."""
    return CPU if device in ("cpu", "meta") else CUDA


def path_of_table() -> Path | None:
    """The file in which `headstock tune` keeps what it measured, None where the environment says that none is read."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named) if named else None
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "headstock" / "tuned.json"


def forget_read() -> None:
    """Read the file anew when it is next asked for: it has changed."""
    _READ.clear()
    CHANGES.note()


def _read(device: str) -> Profile:
    profile, path = default_profile(device), path_of_table()
    if path is not None and device != "meta" and path.is_file():
        profile = _with_measured(profile, device, path)
    return _READ.setdefault(device, profile)


def _with_measured(profile: Profile, device: str, path: Path) -> Profile:
    # Imported here: pydantic takes 0.2 s to load, and few machines have a table.
    from headstock.attention.auto.measured import Measured

    try:
        return Measured.read(path).over(profile, device, str(path))
    except InvalidConfig as error:
        warnings.warn(f"{error} (it is ignored)", UserWarning, stacklevel=2)
        return profile
