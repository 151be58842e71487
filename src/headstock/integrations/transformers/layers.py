"""`use_layers`: headstock's layers in the place of those of a transformers model that compute the same."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from headstock.errors import HeadstockError, UnknownName
from headstock.integrations.transformers.comparing import norm_difference, rotary_difference
from headstock.integrations.transformers.package import transformers_package
from headstock.layers import Conv1D, RMSNorm
from headstock.overrides.applying import Change, Handle
from headstock.overrides.replacing import hooks_of, norm_of, share
from headstock.overrides.swapping import swaps_for
from headstock.registry import unknown_name
from headstock.registry.context import new_token
from headstock.rope.embedding import RotaryEmbedding

__all__ = ["LAYER_KINDS", "LayerReport", "LayersHandle", "LayersReport", "use_layers"]


class LayerReport(NamedTuple):
    """What became of one module.

    Attributes:
        name: of the module in the model.
        kind: of `LAYER_KINDS`.
        was: the name of its class.
        now: the name of the class that took its place, None where it stayed.
        reason: why it stayed; empty where it did not.
    """

    name: str
    kind: str
    was: str
    now: str | None
    reason: str = ""


@dataclass(frozen=True)
class LayersReport:
    """What `use_layers` did, module by module; prints as a table."""

    layers: tuple[LayerReport, ...]

    @property
    def swapped(self) -> tuple[str, ...]:
        """The names of the modules that were replaced."""
        return tuple(each.name for each in self.layers if each.now is not None)

    @property
    def kept(self) -> Mapping[str, str]:
        """The names of those that stayed, with the reason."""
        return {each.name: each.reason for each in self.layers if each.now is None}

    def __str__(self) -> str:
        rows = [("module", "was", "now"), *((each.name, each.was, _outcome(each)) for each in self.layers)]
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        return "\n".join(f"{name:{widths[0]}}  {was:{widths[1]}}  {now}" for name, was, now in rows)


class LayersHandle(Handle):
    """What `use_layers` has replaced; `undo` puts the same modules back.

    Attributes:
        report: what became of each module.
    """

    def __init__(self, model: nn.Module, changes: Sequence[Change], report: LayersReport) -> None:
        super().__init__(model, changes)
        self.report = report


def use_layers(model: nn.Module, *kinds: str) -> LayersHandle:
    """Put headstock's layers in the place of a model's norms, rotary modules and Conv1D, where they compute the same.

    A module is replaced only where its class has one of the known names and it gives the same numbers on a trial, the
    epsilon and the weight included; every other one stays, and the report says why. Parameters are shared, not copied;
    the names of the state, the devices, dtypes, modes and `requires_grad` stay. In a low precision RMSNorm rounds once,
    where transformers' rounds twice.

    Args:
        model: one of transformers' models.
        kinds: `"norms"`, `"rotary"`, `"conv1d"`; none for all three.

    Raises:
        UnknownName: there is no such kind.
        MissingDependency: transformers is not installed, or too old.

    Example:
        >>> from transformers import LlamaConfig, LlamaModel
        >>> model = LlamaModel(LlamaConfig(vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        ...                                num_attention_heads=2, num_key_value_heads=2))
        >>> with use_layers(model, "norms") as handle:
        ...     print(handle.report)
        module                             was           now
        layers.0.input_layernorm           LlamaRMSNorm  RMSNorm
        layers.0.post_attention_layernorm  LlamaRMSNorm  RMSNorm
        norm                               LlamaRMSNorm  RMSNorm
        >>> type(model.norm).__name__
        'LlamaRMSNorm'
    """
    transformers_package()
    for kind in kinds:
        if kind not in LAYER_KINDS:
            raise UnknownName(unknown_name("a kind of layers", kind, LAYER_KINDS))
    token, changes, reports = new_token(), [], []
    for name, module in list(model.named_modules()):
        for kind in kinds or LAYER_KINDS:
            found = LAYER_KINDS[kind](module)
            if found is None:
                continue
            reports.append(_report(name, kind, module, found))
            if isinstance(found, nn.Module):
                changes += list(swaps_for(model, module, found, token))
    return LayersHandle(model, changes, LayersReport(tuple(reports)))._do()


def _norm(module: nn.Module) -> nn.Module | str | None:
    """The norm that takes over, why there is none, or None where the module is no norm of transformers'."""
    cls = type(module)
    named = "RMSNorm" in cls.__name__ or cls.__name__ in _RMS_NORMS
    if not named or isinstance(module, RMSNorm | nn.RMSNorm) or issubclass(cls, nn.LayerNorm):
        return None
    size, eps = norm_of(module)
    if size is None or eps is None or len(module._parameters) != 1:
        return "has something else than one weight and one epsilon"
    reason = _unfit(module) or norm_difference(module, size, eps)
    if reason is not None:
        return reason
    with torch.device("meta"):
        made = RMSNorm(size, eps)
    return _shared(made, module)


def _rotary(module: nn.Module) -> nn.Module | str | None:
    if "RotaryEmbedding" not in type(module).__name__ or isinstance(module, RotaryEmbedding):
        return None
    if not hasattr(module, "config"):
        return "has no configuration"
    reason = _unfit(module) or rotary_difference(module)
    if reason is not None:
        return reason
    device = next((each.device for each in module.buffers()), None)
    return _shared(RotaryEmbedding(module.config, device=device), module)


def _conv1d(module: nn.Module) -> nn.Module | str | None:
    from transformers.pytorch_utils import Conv1D as Theirs

    if not isinstance(module, Theirs):
        return None
    if type(module) is not Theirs:
        return f"is a {type(module).__name__}, of which more may be expected"
    reason = _unfit(module)
    if reason is not None:
        return reason
    with torch.device("meta"):
        made = Conv1D(module.nf, module.nx)
    return _shared(made, module)


LAYER_KINDS: Mapping[str, Callable[[nn.Module], nn.Module | str | None]] = {
    "norms": _norm,
    "rotary": _rotary,
    "conv1d": _conv1d,
}
"""The kinds of layers, each with what finds the module that takes over, or says why there is none."""

# RMS norms whose classes are called otherwise.
_RMS_NORMS = frozenset({"T5LayerNorm", "MT5LayerNorm", "UMT5LayerNorm", "Pix2StructLayerNorm", "UdopLayerNorm"})


def _shared(made: nn.Module, module: nn.Module) -> nn.Module | str:
    try:
        share(made, module, type(made).__name__)
    except HeadstockError as error:
        return str(error)
    return made


def _unfit(module: nn.Module) -> str | None:
    hooks = hooks_of(module)
    if hooks:
        return f"has {', '.join(hooks)} of its own"
    if any(tensor.is_meta for tensor in _tensors(module)):
        return "is on the meta device, where nothing can be tried"
    return None


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _report(name: str, kind: str, module: nn.Module, found: nn.Module | str) -> LayerReport:
    if isinstance(found, str):
        return LayerReport(name, kind, type(module).__name__, None, found)
    return LayerReport(name, kind, type(module).__name__, type(found).__name__)


def _outcome(report: LayerReport) -> str:
    return f"stays: {report.reason}" if report.now is None else report.now
