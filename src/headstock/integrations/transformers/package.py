"""The package `transformers`, imported when it is asked for and not before."""

import re
from typing import Any, NamedTuple

from headstock.errors import MissingDependency

__all__ = ["LEAST", "Tables", "tables", "transformers_package"]

LEAST = (5, 20)
"""The first version that is served."""

_INSTALL = 'pip install "headstock[transformers]"'


class Tables(NamedTuple):
    """The shared entries of transformers' two interfaces: plain dicts behind every instance of each."""

    attention: dict[str, Any]
    masks: dict[str, Any]


def transformers_package() -> Any:
    """The module `transformers`.

    Raises:
        MissingDependency: it is not installed, or too old.
    """
    try:
        import transformers
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        raise MissingDependency(
            f"the package transformers must be installed for headstock to work inside of it, got none; {_INSTALL}"
        ) from None
    if _release(transformers.__version__) < LEAST:
        raise MissingDependency(_old(transformers.__version__))
    return transformers


def tables() -> Tables:
    """The shared entries of `AttentionInterface` and `AttentionMaskInterface`.

    Raises:
        MissingDependency: transformers is not installed, or too old, or has no such tables.
    """
    package = transformers_package()
    found = []
    for name in ("AttentionInterface", "AttentionMaskInterface"):
        entries = getattr(getattr(package, name, None), "_global_mapping", None)
        if not isinstance(entries, dict):
            raise MissingDependency(
                f"transformers.{name} must hold its entries in a dict that all instances share, got {entries!r} in "
                f"transformers {package.__version__}; report it to headstock"
            )
        found.append(entries)
    return Tables(*found)


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _old(version: str) -> str:
    least = ".".join(map(str, LEAST))
    return (
        f"the package transformers must be {least} or later for headstock to work inside of it, got {version}; "
        f"{_INSTALL}"
    )
