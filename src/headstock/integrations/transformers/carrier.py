"""The object in which a mask travels through a model of transformers: like a tensor to those who pass it on alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, NoReturn

import torch
from jaxtyping import Bool
from torch import Tensor

from headstock.errors import UnsupportedFeature
from headstock.integrations.transformers.moving import moved
from headstock.integrations.transformers.repeating import LayerCalls
from headstock.masks import CausalOrDense, Geometry, Mask, PreparedMask, padding, prepare
from headstock.masks.patterns.documents import Documents
from headstock.masks.predicate import Pattern, leaves
from headstock.masks.structure import hides_nothing

__all__ = ["MaskCarrier", "OpaqueMaskError"]


class OpaqueMaskError(UnsupportedFeature, AttributeError):
    """A model asks of its mask what only a tensor has; an `AttributeError`, so that `hasattr` says no."""


class MaskCarrier:
    """A model's mask for all of its layers, bound to the extent of one forward.

    It has the `ndim`, `shape`, `dtype` and `device` of the boolean tensor `[batch, 1, queries, keys]` that it stands
    for, which is made only where an implementation wants it. Caches and generation pass it on by `contiguous()` and
    `to()`. Whoever computes with it, or looks inside, is told so.

    Attributes:
        mask: the pattern, without the padding.
        keep: True for the keys that are no padding, `[batch, keys]`; None where no key is hidden.
        geometry: the extent.
        model: whose mask it is, for the texts of errors.
        may_be_sliced: whether `carrier[:, 0, :, :]` gives the tensor: for models whose indexer scores every pair.
        calls: what the layers ran that were given it.
    """

    ndim = 4
    dtype = torch.bool

    def __init__(
        self,
        mask: Mask,
        keep: Bool[Tensor, "rows keys"] | None,
        geometry: Geometry,
        device: torch.device,
        *,
        model: str = "a model",
        may_be_sliced: bool = False,
    ) -> None:
        self.mask = mask
        self.keep = keep
        self.geometry = geometry
        self.device = device
        self.model = model
        self.may_be_sliced = may_be_sliced
        self.calls = LayerCalls()
        self._prepared: dict[int, PreparedMask] = {}
        self._made: PreparedMask | None = None

    @property
    def shape(self) -> torch.Size:
        """`[batch, 1, queries, keys]`."""
        return torch.Size(self.geometry.shape)

    def contiguous(self, **_options: Any) -> "MaskCarrier":
        """Itself: it has no strides."""
        return self

    def to(self, *arguments: Any, **options: Any) -> "MaskCarrier":
        """The same on another device; a dtype says nothing, since every attention function is given its own.

        Raises:
            UnsupportedFeature: it has a plain function, whose tensors cannot be found.
        """
        device = _device_of(arguments, options)
        if device is None or device == self.device:
            return self
        offsets = {name: moved(getattr(self.geometry, name), device) for name in ("q_offset", "kv_offset")}
        return MaskCarrier(
            moved(self.mask, device),
            moved(self.keep, device),
            replace(self.geometry, **offsets),
            device,
            model=self.model,
            may_be_sliced=self.may_be_sliced,
        )

    def prepared(self, heads: int, *, as_pattern: bool = False) -> PreparedMask:
        """What attention functions take, made once for all layers of as many heads.

        Args:
            heads: of the query; a plain function may say something else of each.
            as_pattern: whether to leave aside a tensor that was made in advance.
        """
        if self._made is not None and not as_pattern:
            return self._made
        if all(isinstance(leaf, Pattern) for leaf in leaves(self.mask.predicate)):
            heads = 1
        if torch.compiler.is_compiling() and torch.is_grad_enabled():
            return self._prepare(heads)  # a layer that backward repeats must write on nothing that was made outside
        if heads not in self._prepared:
            self._prepared[heads] = self._prepare(heads)
        return self._prepared[heads]

    def _prepare(self, heads: int) -> PreparedMask:
        geometry = self.geometry if heads == self.geometry.heads else replace(self.geometry, heads=heads)
        made = prepare(self.whole, geometry, device=self.device)
        shown = self._shown()
        if shown is not None:
            made._keep("dense", lambda: shown)
            made._keep("causal_or_dense", lambda: CausalOrDense(shown, False))
        return made

    def _shown(self) -> Bool[Tensor, "rows 1 1 keys"] | None:
        """The tensor of a step of decoding that sees all but padding: a view of the padding."""
        geometry = self.geometry
        first = geometry.kv_offset
        if self.keep is None or geometry.q_length != 1 or isinstance(first, Tensor) or torch.compiler.is_compiling():
            return None
        if not hides_nothing(self.mask.predicate, geometry):
            return None
        return self.keep[:, None, None, first : first + geometry.kv_length]

    def made_dense(self, heads: int) -> "MaskCarrier":
        """Itself with its tensor made now, so that a compiled forward is given a tensor and no offset to guard."""
        dense = self.prepared(heads).dense()
        self._made = prepare(dense, replace(self.geometry, heads=dense.shape[1]))
        return self

    def tensor(self, form: Literal["additive", "dense"], dtype: torch.dtype = torch.float32) -> Tensor:
        """The tensor `[batch, 1, queries, keys]` that it stands for, as the first head has it: booleans, or numbers."""
        made = self.prepared(1, as_pattern=True)
        tensor: Tensor = made.dense() if form == "dense" else made.additive(dtype)
        return tensor.expand(self.shape)

    @property
    def whole(self) -> Mask:
        """The mask with its padding."""
        return self.mask if self.keep is None else self.mask & padding(self.keep)

    @property
    def is_packed(self) -> bool:
        """Whether it keeps the sequences of a row apart."""
        return any(isinstance(leaf, Documents) for leaf in leaves(self.mask.predicate))

    def __getitem__(self, index: Any) -> Tensor:
        if self.may_be_sliced:
            part: Tensor = self.tensor("dense")[index]
            return part
        return self._refuse("__getitem__")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not hasattr(Tensor, name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self._refuse(name)

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], _types: Any, arguments: tuple[Any, ...] = (), keywords: Any = None
    ) -> NoReturn:
        given = [*arguments, *(keywords or {}).values()]
        given += [each for listed in given if isinstance(listed, list | tuple) for each in listed]
        carrier = next((each for each in given if isinstance(each, MaskCarrier)), None)
        raise _refusal("a model" if carrier is None else carrier.model, getattr(function, "__name__", str(function)))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, bool | int | float | Tensor):
            self._refuse("__eq__")
        return self is other

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.whole!r}, {self.geometry!r})"

    def _refuse(self, asked: str) -> NoReturn:
        raise _refusal(self.model, asked)


def _refusal(model: str, asked: str) -> OpaqueMaskError:
    return OpaqueMaskError(
        f"the mask of {model} must be passed on as it is to the attention function, got {asked.strip('_')!r} of it: "
        "headstock makes no tensor of all pairs; use attn_implementation='eager' or 'sdpa' for this model"
    )


def _refusing(name: str) -> Callable[..., NoReturn]:
    def method(self: MaskCarrier, *_operands: Any) -> NoReturn:
        self._refuse(name)

    return method


for _name in (
    *("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "neg", "invert", "bool", "len", "iter"),
    *("and", "rand", "or", "ror", "xor", "rxor", "lt", "le", "gt", "ge", "setitem", "float", "int"),
):
    setattr(MaskCarrier, f"__{_name}__", _refusing(f"__{_name}__"))


def _device_of(arguments: tuple[Any, ...], options: dict[str, Any]) -> torch.device | None:
    """The device among what `Tensor.to` takes."""
    named = options.get("device")
    found = [each for each in (*arguments, named) if isinstance(each, str | torch.device | int)]
    found += [each.device for each in (*arguments, options.get("other")) if isinstance(each, Tensor)]
    return torch.device(found[0]) if found else None
