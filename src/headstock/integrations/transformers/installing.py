"""`install` and `uninstall`: headstock's names in transformers' two tables, as one."""

import threading
from collections.abc import Callable
from typing import Any

from headstock.errors import DuplicateName, MisplacedScope
from headstock.integrations.transformers.attending import attention_function
from headstock.integrations.transformers.checkpoint_scopes import read_scopes_no_more
from headstock.integrations.transformers.masking import mask_function
from headstock.integrations.transformers.naming import available
from headstock.integrations.transformers.package import Tables, tables
from headstock.integrations.transformers.watching import unwatch, watch

__all__ = ["install", "installed", "uninstall"]

_lock = threading.RLock()
_entered: dict[str, Callable[..., Any]] = {}


def install() -> tuple[str, ...]:
    """Give transformers headstock's attention functions, each with its mask function; returns their names.

    From then on `attn_implementation="headstock"` works in `from_pretrained`, `from_config` and
    `set_attn_implementation` of every model that uses transformers' attention interface. "headstock" is headstock's
    `auto`; "headstock:blocked", "headstock:torch", ... name one implementation. A model that has attention of its own
    and would never call the function is warned of by name (`ConfigWarning`) when it is built.

    Called again, it adds what headstock's table has gained since, and changes nothing else.

    Raises:
        MissingDependency: transformers is not installed, or older than 5.20.
        DuplicateName: transformers knows one of the names already, as something else; nothing is changed then.

    Example:
        >>> install()[:3]
        ('headstock', 'headstock:blocked', 'headstock:eager')
        >>> uninstall()
    """
    with _lock:
        held = tables()
        missing = {name: implementation for name, implementation in available().items() if name not in _entered}
        for name in missing:
            _check_free(name, held)
        for name, implementation in missing.items():
            _entered[name] = held.attention[name] = attention_function(name, implementation)
            held.masks[name] = mask_function
        watch(_entered)
        return tuple(sorted(_entered))


def uninstall() -> None:
    """Take headstock's names out of transformers' tables, which are then as they were.

    A model that still names one of them refuses to run, with transformers' own `KeyError`, until another
    implementation is set or `install()` is called again. A name that was registered anew since is left to its owner.

    Raises:
        MisplacedScope: nothing is installed.
    """
    with _lock:
        if not _entered:
            raise MisplacedScope(
                "uninstall() must follow install(), got transformers without headstock; call install()"
            )
        held = tables()
        for name, function in _entered.items():
            if held.attention.get(name) is function:
                del held.attention[name]
            if held.masks.get(name) is mask_function:
                del held.masks[name]
        _entered.clear()
        unwatch()
        read_scopes_no_more()


def installed() -> tuple[str, ...]:
    """The names that transformers knows from headstock; none before `install` and after `uninstall`."""
    return tuple(sorted(_entered))


def _check_free(name: str, held: Tables) -> None:
    for table, kind in zip(held, ("AttentionInterface", "AttentionMaskInterface"), strict=True):
        if name in table:
            raise DuplicateName(
                f"the name {name!r} must be free in transformers' {kind} for headstock to take it, got "
                f"{table[name]!r}; unregister that first"
            )
