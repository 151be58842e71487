"""What an attention function runs on, as data: devices, dtypes, sizes, gradients, packages."""

import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch

from headstock.attention.request import Request
from headstock.attention.situation import Situation
from headstock.errors import InvalidConfig

__all__ = ["READS_PAGES", "UNLIMITED", "Limits", "missing_packages"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Where an attention function runs and with what; every default is no limit.

    Attributes:
        devices: the types of device ("cpu", "cuda", ...) that it runs on; None: any.
        compute_capability: the least compute capability of a CUDA device.
        dtypes: the dtypes of query, key and value ("float32", ...); None: any.
        head_dim_most: the largest head size of query and value.
        head_dim_multiple: what both head sizes are multiples of.
        equal_head_dims: whether query and value must have one head size.
        grouped_heads: whether a key head may serve several query heads.
        gradients: the types of device on which it can be differentiated; None: wherever it runs.
        transforms: whether it works under torch.func and forward-mode differentiation.
        compile: whether it works inside of `torch.compile(fullgraph=True)`.
        export: whether it works inside of `torch.export.export`.
        paged: whether it reads keys and values that lie in pages.
        packages: what must be importable, alternatives in one text ("flash_attn | kernels").
        install: the command that installs them.
        further: reasons against a call that are no data, a phrase each; it is traced by `torch.compile`.

    Example:
        >>> limits = Limits.from_dict({"devices": ["cuda"], "dtypes": ["float16", "bfloat16"], "head_dim_most": 256})
        >>> sorted(limits.dtypes), limits.to_dict()["devices"], limits == Limits.from_dict(limits.to_dict())
        (['bfloat16', 'float16'], ['cuda'], True)
    """

    # Of pydantic, which is loaded by `from_dict` alone.
    __pydantic_config__: ClassVar[Mapping[str, Any]] = {"extra": "forbid"}

    devices: frozenset[str] | None = None
    compute_capability: tuple[int, int] | None = None
    dtypes: frozenset[str] | None = None
    head_dim_most: int | None = None
    head_dim_multiple: int = 1
    equal_head_dims: bool = False
    grouped_heads: bool = True
    gradients: frozenset[str] | None = None
    transforms: bool = True
    compile: bool = True
    export: bool = True
    paged: bool = False
    packages: tuple[str, ...] = ()
    install: str | None = None
    further: Callable[[Situation, Request], Iterable[str]] | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Limits":
        """The limits that `data` says, each value checked.

        Raises:
            InvalidConfig: an unknown field or a value of the wrong kind.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(cls).validate_python(dict(data))
        except ValidationError as error:
            wrong = error.errors()[0]
            field = ".".join(str(part) for part in wrong["loc"])
            known = ", ".join(each.name for each in fields(cls))
            raise InvalidConfig(
                f"limits must be fields of Limits with values of their kind, got {field}={wrong['input']!r} "
                f"({wrong['msg'].lower()}); the fields are {known}"
            ) from None

    def to_dict(self) -> dict[str, Any]:
        """What is limited, in values that JSON has; `further`, which is no data, is left out."""
        told = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "further"}
        return {name: _plain(value) for name, value in told.items() if value != getattr(UNLIMITED, name)}

    def reasons_against(self, situation: Situation, request: Request) -> Iterator[str]:
        """Why a call that lies so cannot be served, a phrase each."""
        if self is UNLIMITED:
            if situation.is_paged:
                yield "does not read pages"
            return
        yield from self._of_device(situation)
        yield from self._of_sizes(situation)
        yield from self._of_surroundings(situation)
        if self.further is not None:
            yield from self.further(situation, request)

    def absent(self) -> str:
        """The packages that are missing, in words; nothing where none is."""
        return " and ".join(each.replace(" | ", " or ") for each in missing_packages(self.packages))

    def _of_device(self, situation: Situation) -> Iterator[str]:
        device = situation.device.type
        if self.devices is not None and device not in self.devices:
            yield f"does not run on {device} (only on {_listed(self.devices)})"
        # A call may be explained for a device that this machine does not have.
        elif device == "cuda" and self.compute_capability is not None and torch.cuda.is_available():
            present = torch.cuda.get_device_capability(situation.device)
            if present < self.compute_capability:
                least = _dotted(self.compute_capability)
                yield f"needs compute capability {least} (this device has {_dotted(present)})"
        if self.dtypes is not None and situation.dtype_name not in self.dtypes:
            yield f"does not take {situation.dtype_name} (only {_listed(self.dtypes)})"
        if situation.needs_gradient and self.gradients is not None and device not in self.gradients:
            yield f"has no gradients on {device}" + (f" (only on {_listed(self.gradients)})" if self.gradients else "")

    def _of_sizes(self, situation: Situation) -> Iterator[str]:
        head_dim, value_dim = situation.head_dim, situation.value_dim
        most, multiple = self.head_dim_most, self.head_dim_multiple
        if most is not None and (head_dim > most or value_dim > most):
            yield f"takes head sizes up to {most} (got {head_dim} and {value_dim})"
        if multiple > 1 and (head_dim % multiple or value_dim % multiple):
            yield f"takes head sizes that are multiples of {multiple} (got {head_dim} and {value_dim})"
        if self.equal_head_dims and head_dim != value_dim:
            yield f"takes values of the head size of the keys alone (got {head_dim} and {value_dim})"
        if not self.grouped_heads and situation.heads != situation.kv_heads:
            yield f"takes a key head for each query head (got {situation.heads} over {situation.kv_heads})"

    def _of_surroundings(self, situation: Situation) -> Iterator[str]:
        if situation.is_transformed and not self.transforms:
            yield "does not work under torch.func or forward-mode differentiation"
        if situation.is_exporting and not self.export:
            yield "cannot be exported"
        elif situation.is_compiling and not self.compile:
            yield "does not work inside of compiled code"
        if situation.is_paged and not self.paged:
            yield "does not read pages"
        absent = self.absent()
        if absent:
            yield f"is not installed ({absent})"


UNLIMITED = Limits()
"""What a function is taken to have that declares no limits."""

READS_PAGES = Limits(paged=True)
"""The same of a function that reads pages too."""

_FOUND: dict[str, bool] = {}


def missing_packages(packages: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `packages` of which no alternative can be imported; in compiled code as it was found before."""
    missing = []
    for each in packages:
        if not torch.compiler.is_compiling():
            _FOUND[each] = any(_is_importable(name.strip()) for name in each.split("|"))
        if not _FOUND.get(each, False):
            missing.append(each)
    return tuple(missing)


def _is_importable(name: str) -> bool:
    if name in sys.modules:
        return sys.modules[name] is not None
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # a package above it is absent
        return False


def _plain(value: Any) -> Any:
    if isinstance(value, frozenset):
        return sorted(value)
    return list(value) if isinstance(value, tuple) else value


def _listed(names: Iterable[str]) -> str:
    return " and ".join(sorted(names))


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"
