"""What overriding has to know of a kind of models, and the words that it uses."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import nn

from headstock.attention import AttentionInterface
from headstock.attention.settings import ATTENTION_SETTINGS
from headstock.errors import UnsupportedFeature
from headstock.layers.checkpointing.settings import CHECKPOINT_SETTINGS
from headstock.registry.settings import Settings
from headstock.rope.embedding import RotaryEmbedding
from headstock.rope.settings import ROPE_SETTINGS

__all__ = ["FIELDS", "ModelKind", "Modules", "Said"]

#: Modules by their names in the model; one that is used in several places has several names.
Modules = Mapping[str, nn.Module]

FIELDS: Mapping[str, Settings[Any]] = {
    "attention": ATTENTION_SETTINGS,
    "checkpoint": CHECKPOINT_SETTINGS,
    "rope": ROPE_SETTINGS,
}
"""What can be set for modules, and where it is kept; a mask is kept with the attention function that it is for."""


class Said(NamedTuple):
    """A fact about a module for people, and where it was set."""

    text: str
    origin: str


class ModelKind:
    """How the models of one library are overridden: which modules there are, and what must be done beside setting.

    Attributes:
        name: what error texts call models of this kind.
    """

    name: str

    def takes(self, model: nn.Module) -> bool:
        """Whether `model` is of this kind, or holds such models."""
        raise NotImplementedError

    def attention(self, model: nn.Module) -> Modules:
        """The modules that look their attention function up."""
        raise NotImplementedError

    def interface(self, module: nn.Module) -> AttentionInterface:
        """The table in which an attention module's name is looked up."""
        raise NotImplementedError

    def checkpointing(self, model: nn.Module) -> Modules:
        """The layers that can be checkpointed."""
        raise NotImplementedError

    def rotating(self, model: nn.Module) -> Modules:
        """The layers that are given position embeddings."""
        raise NotImplementedError

    def rotary(self, model: nn.Module, layer: nn.Module, given: Mapping[str, Any]) -> RotaryEmbedding:
        """Position embeddings for one layer by other parameters; what they leave out is the model's.

        Raises:
            InvalidConfig, UnknownName: the parameters are none.
            UnsupportedFeature: the layer's position embeddings are not those that headstock makes.
        """
        raise NotImplementedError

    def check_attention(self, model: nn.Module, modules: Modules) -> None:
        """Refuse modules whose attention function is not looked up through headstock.

        Raises:
            UnsupportedFeature: it is not.
        """

    def check_checkpoint(self, options: Mapping[str, Any]) -> None:
        """Refuse options of checkpoint policies that the layers cannot follow.

        Raises:
            UnsupportedFeature: there is one.
        """

    def check_scoped_checkpoint(self, layers: Modules) -> None:
        """Called before checkpoint policies are set for one context alone, to refuse layers that would not read it.

        Raises:
            UnsupportedFeature: there is one.
        """

    def guard(self, model: nn.Module, name: str) -> Callable[[], None] | None:  # noqa: ARG002 -- the subclass's
        """What raises where a scope over the attention module `name` could not be honoured; None: it always can."""
        return None

    def settled(self, field: str, module: nn.Module) -> None:
        """Called after what is set for `module` has changed, to do what the setting needs beside being read."""

    def check_taken(self, field: str, module: nn.Module) -> None:
        """Called before a setting is taken back, to refuse where that could not be exact.

        Raises:
            MisplacedScope: somebody else changed what the setting has changed.
        """

    def attention_said(self, module: nn.Module) -> Said:
        """The name of the attention function that runs without any override."""
        raise NotImplementedError

    def mask_said(self, model: nn.Module, module: nn.Module) -> Said:
        """The mask without any override and without padding."""
        raise NotImplementedError

    def rope_said(self, model: nn.Module, layer: nn.Module) -> Said:
        """The position embeddings without any override."""
        raise NotImplementedError

    def checkpoint_said(self, layer: nn.Module) -> Said:
        """How a layer is checkpointed without any override."""
        raise NotImplementedError

    def notes(self, model: nn.Module) -> tuple[str, ...]:  # noqa: ARG002 -- the subclass's
        """What else there is to say of a model, a sentence each."""
        return ()


def refuse_kind(model: nn.Module) -> UnsupportedFeature:
    """The error for a model that no kind takes."""
    return UnsupportedFeature(
        "a model must be built from headstock's parts, or be one of transformers' (after `import "
        f"headstock.integrations.transformers`), got {type(model).__name__}; register a kind of your own in "
        "headstock.overrides.KINDS"
    )
