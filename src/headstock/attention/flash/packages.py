"""Where flash attention is found: in its packages, or among the kernels of the hub that were loaded by name."""

import importlib
import sys
from types import ModuleType
from typing import Any, NamedTuple

from headstock.attention.flash.kernel import Kernel, kernel_of
from headstock.attention.limits import missing_packages
from headstock.errors import InvalidConfig, MissingDependency

__all__ = ["PACKAGES", "Package", "load_flash_kernel", "look"]


class Package(NamedTuple):
    """One generation of flash attention.

    Attributes:
        module: what its package is imported as.
        install: the command that installs it.
        repository: its kernel of the hub, which the package `kernels` loads.
        version: that of the kernel.
    """

    module: str
    install: str
    repository: str
    version: int

    @property
    def alternatives(self) -> str:
        """What must be importable, as `Limits.packages` says it."""
        return f"{self.module} | kernels"


PACKAGES = {
    2: Package("flash_attn", "pip install flash-attn --no-build-isolation", "kernels-community/flash-attn2", 4),
    3: Package(
        "flash_attn_interface",
        "install it from the folder hopper of github.com/Dao-AILab/flash-attention",
        "kernels-community/flash-attn3",
        1,
    ),
    4: Package("flash_attn.cute", "pip install flash-attn-4", "kernels-community/flash-attn4", 0),
}
"""The generations by number."""

_LOADED: dict[int, Kernel] = {}
"""Kernels of the hub."""

_READ: dict[int, tuple[ModuleType, Kernel | None]] = {}
"""The module that was found last, and what was read from it."""

_FOUND: dict[int, Kernel | str] = {}
"""What the last look has found."""


def look(generation: int, *, is_named: bool = False) -> Kernel | str:
    """The flash attention of that generation, or a phrase that says why there is none.

    Where no package is installed but `kernels`, the kernel of the hub is loaded for a call that names the function, and
    for no other.
    """
    _remember(generation, is_named)
    return _FOUND[generation]


def _remember(generation: int, is_named: bool) -> None:
    found = _looked(generation)
    if is_named and isinstance(found, str) and found == _to_load(generation) and missing_packages(("kernels",)) == ():
        load_flash_kernel(f"flash_attention_{generation}")
        found = _looked(generation)
    _FOUND[generation] = found


# As torch.compiler.assume_constant_result does, which would import the compiler: dynamo runs it and does not trace.
_remember._dynamo_marked_constant = True  # type: ignore[attr-defined]


def load_flash_kernel(name: str, *, repository: str | None = None, version: int | None = None) -> str:
    """Load a kernel of the hub for `flash_attention_2`, `_3` or `_4`, where no package of theirs is installed.

    The package `kernels` downloads compiled code of others and runs it, so that only this and a call that names the
    attention function do so: `auto` never does. Its cache, its checks of who is trusted and `HF_HUB_OFFLINE` apply.

    Args:
        name: the attention function.
        repository: another repository than kernels-community's.
        version: the kernel's version there.

    Returns:
        What was loaded, as `explain` calls it.

    Raises:
        InvalidConfig: no such attention function.
        MissingDependency: `kernels` is not installed, or what was loaded is no flash attention.

    >>> load_flash_kernel("flash_attention_1")
    Traceback (most recent call last):
        ...
    headstock.errors.InvalidConfig: name must be one of flash_attention_2, flash_attention_3 and flash_attention_4,
    got 'flash_attention_1'; it is the attention function that the kernel is for
    """
    generation = {f"flash_attention_{number}": number for number in PACKAGES}.get(name)
    if generation is None:
        raise InvalidConfig(
            "name must be one of flash_attention_2, flash_attention_3 and flash_attention_4, got "
            f"{name!r}; it is the attention function that the kernel is for"
        )
    package = PACKAGES[generation]
    try:
        kernels: Any = importlib.import_module("kernels")
    except ImportError:
        raise MissingDependency(
            f"kernels must be installed to load {name} from the hub, got none; pip install kernels, or "
            f"{package.install}"
        ) from None
    where = repository or package.repository
    module = kernels.get_kernel(where, version=package.version if version is None else version)
    kernel = kernel_of(generation, module)
    if kernel is None:
        raise MissingDependency(
            f"a kernel for {name} must have flash_attn_varlen_func, got {where} without; name another repository"
        )
    _LOADED[generation] = kernel._replace(name=f"{where} of the hub")
    return _LOADED[generation].name


def _looked(generation: int) -> Kernel | str:
    package = PACKAGES[generation]
    try:
        module = sys.modules.get(package.module) or importlib.import_module(package.module)
    except (ImportError, OSError) as error:
        if generation in _LOADED:
            return _LOADED[generation]
        if isinstance(error, ModuleNotFoundError) and (error.name or "") in package.module:
            return _to_load(generation)
        return f"cannot import {package.module} ({error})"
    kernel = _read(generation, module) or _LOADED.get(generation)
    return kernel or f"finds no flash_attn_varlen_func in {package.module}"


def _to_load(generation: int) -> str:
    where = PACKAGES[generation].repository
    return f"is not loaded (load_flash_kernel('flash_attention_{generation}') loads {where} from the hub)"


def _read(generation: int, module: ModuleType) -> Kernel | None:
    known = _READ.get(generation)
    if known is None or known[0] is not module:
        known = _READ[generation] = module, kernel_of(generation, module)
    return known[1]
