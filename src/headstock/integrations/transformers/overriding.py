"""Overrides of models of transformers: which modules there are, and what must be done there beside setting."""

import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from types import CodeType
from typing import Any

from torch import nn

from headstock.attention import ALL_ATTENTION_FUNCTIONS, AttentionInterface
from headstock.attention.settings import ATTENTION_SETTINGS
from headstock.errors import UnsupportedFeature
from headstock.integrations.transformers import checkpoint_scopes, checkpointing, turning
from headstock.integrations.transformers.another import implementation_of, refuse_another
from headstock.integrations.transformers.architectures import uses_attention_interface
from headstock.integrations.transformers.installing import installed
from headstock.integrations.transformers.naming import IMPLEMENTATIONS
from headstock.overrides.contract import ModelKind, Modules, Said
from headstock.rope.embedding import RotaryEmbedding

__all__ = ["TransformersModels", "attention_modules"]

_TABLE = "ALL_ATTENTION_FUNCTIONS"
_SHARED = re.compile(r"transformers\.(?!models\.)")


class TransformersModels(ModelKind):
    """Models of transformers that run headstock's attention functions (`install()`)."""

    name = "transformers' models"

    def takes(self, model: nn.Module) -> bool:
        """Whether there is one of transformers' models in it."""
        package = sys.modules.get("transformers")  # where it was not imported there are none
        return package is not None and any(isinstance(each, package.PreTrainedModel) for each in model.modules())

    def attention(self, model: nn.Module) -> Modules:
        """The modules whose class names transformers' table of attention functions."""
        return attention_modules(model)

    def interface(self, module: nn.Module) -> AttentionInterface:  # noqa: ARG002 -- all modules have the same
        """The shared table."""
        return ALL_ATTENTION_FUNCTIONS

    def check_attention(self, model: nn.Module, modules: Modules) -> None:
        """Refuse a model that runs an attention function of transformers' own."""
        for name, module in modules.items():
            implementation = implementation_of(module)
            if implementation not in IMPLEMENTATIONS:
                raise UnsupportedFeature(
                    f"the layers of {type(model).__name__} must run headstock's attention to be overridden, got "
                    f"attn_implementation={implementation!r} in {name!r}, which cannot be mixed in: its masks are of "
                    "another kind; call install() and model.set_attn_implementation('headstock') first"
                )

    def checkpointing(self, model: nn.Module) -> Modules:
        """Those of transformers' `GradientCheckpointingLayer`."""
        return checkpointing.layers_of(model)

    def check_checkpoint(self, options: Mapping[str, Any]) -> None:
        """Refuse reentrant checkpointing, which loses the gradients of keywords in transformers' layers."""
        if options.get("use_reentrant"):
            raise UnsupportedFeature(
                "checkpoint policies of transformers' layers must run with use_reentrant=False, got True, which gives "
                "their keywords no gradients; leave it out"
            )

    def check_scoped_checkpoint(self, layers: Modules) -> None:
        """Let the layers read what a block says, until `uninstall`; refuse those that would not."""
        if not installed():
            raise UnsupportedFeature(
                "headstock must be installed in transformers for a checkpoint policy to hold in a `with` block, got "
                "transformers without it; call install(), or use apply(model, overrides)"
            )
        checkpoint_scopes.read_scopes()
        checkpoint_scopes.check_reads_scopes(layers)

    def rotating(self, model: nn.Module) -> Modules:
        """The layers that are given position embeddings."""
        return turning.layers_of(model)

    def rotary(self, model: nn.Module, layer: nn.Module, given: Mapping[str, Any]) -> RotaryEmbedding:
        """Embeddings in the place of the model's, where those are laid out as headstock's are."""
        return turning.rotary_for(model, layer, given)

    def guard(self, model: nn.Module, name: str) -> Callable[[], None] | None:
        """Refuses a block around a layer that transformers recomputes outside of it."""
        return checkpointing.guard_of(model, name)

    def settled(self, field: str, module: nn.Module) -> None:
        """Hook the module, or switch it, while something is set for it."""
        if field == "attention":
            _hook(module, wanted=bool(ATTENTION_SETTINGS.layers(module)))
        elif field == "rope":
            turning.switch(module)
        else:
            checkpointing.switch(module)

    def check_taken(self, field: str, module: nn.Module) -> None:
        """Refuse where checkpointing or the forward was changed by other means."""
        if field == "checkpoint":
            checkpointing.check(module)
        if field == "rope":
            turning.check(module)

    def attention_said(self, module: nn.Module) -> Said:
        """What the configuration names."""
        implementation = implementation_of(module)
        return Said(IMPLEMENTATIONS.get(implementation, f"transformers' {implementation}"), f"config: {implementation}")

    def mask_said(self, model: nn.Module, module: nn.Module) -> Said:  # noqa: ARG002 -- it is said in the module
        """What the module knows of it: transformers makes masks once for all layers."""
        window = getattr(module, "sliding_window", None)
        return Said("the model's" if window is None else f"the model's, sliding_window={window}", "model")

    def rope_said(self, model: nn.Module, layer: nn.Module) -> Said:
        """What the configuration says."""
        return turning.said(model, layer)

    def checkpoint_said(self, layer: nn.Module) -> Said:
        """What `gradient_checkpointing_enable` has set."""
        return checkpointing.said(layer)

    def notes(self, model: nn.Module) -> tuple[str, ...]:
        """Whether the model has attention of its own, whatever its configuration names."""
        package = sys.modules["transformers"]
        owns = [each for each in model.modules() if isinstance(each, package.PreTrainedModel)]
        strangers = [type(each) for each in owns if not uses_attention_interface(type(each))]
        outermost = {each.__module__: each.__name__ for each in reversed(strangers)}  # its parts say the same
        return tuple(
            f"{name} accepts any attn_implementation and never calls it: it runs attention of its own"
            for name in sorted(outermost.values())
        )


def attention_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The modules of `model` that look their attention function up in transformers' table, by name."""
    named = model.named_modules(remove_duplicate=False)
    return {name: module for name, module in named if _looks_up(type(module))}  # type: ignore[arg-type]  # classes have a hash


def _hook(module: nn.Module, *, wanted: bool) -> None:
    """See to it that another implementation is refused by one hook, or by none."""
    present = [key for key, each in module._forward_pre_hooks.items() if each is refuse_another]
    if wanted and not present:
        module.register_forward_pre_hook(refuse_another)
    for key in [] if wanted else present:
        del module._forward_pre_hooks[key]


@functools.cache
def _looks_up(cls: type) -> bool:
    """Whether a method of the class, or of one that it is made from, names the table."""
    # What all models share names the table too, to check names.
    own = [each for each in cls.__mro__[: cls.__mro__.index(nn.Module)] if not _SHARED.match(each.__module__)]
    methods = (inspect.unwrap(each) for base in own for each in vars(base).values() if inspect.isfunction(each))
    return any(_TABLE in code.co_names for method in methods for code in _codes(method.__code__))


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)
