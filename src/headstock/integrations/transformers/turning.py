"""Position embeddings of single layers of transformers' models, put in the place of the model's before the layer."""

import inspect
from collections.abc import Mapping
from types import MethodType
from typing import Any

from torch import Tensor, nn

from headstock.errors import InvalidShape, MisplacedScope, UnsupportedFeature
from headstock.integrations.transformers.checkpointing import layers_of as checkpointing_layers
from headstock.integrations.transformers.comparing import rotary_difference
from headstock.overrides.contract import Said
from headstock.overrides.rotary import rotary_of
from headstock.rope.embedding import RotaryEmbedding
from headstock.rope.parameters import RopeParameters
from headstock.rope.settings import ROPE_SETTINGS

__all__ = ["check", "layers_of", "rotary_for", "rotary_module", "said", "switch", "turn"]

_EMBEDDINGS, _POSITIONS = "position_embeddings", "position_ids"


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that are given position embeddings, by name."""
    return {
        name: layer
        for name, layer in checkpointing_layers(model).items()
        if _EMBEDDINGS in inspect.signature(type(layer).forward).parameters
    }


def rotary_for(model: nn.Module, layer: nn.Module, given: Mapping[str, Any]) -> RotaryEmbedding:
    """Embeddings by other parameters, for one layer.

    Raises:
        InvalidConfig, UnknownName: the parameters are none.
        UnsupportedFeature: the model has no rotary module whose embeddings are laid out as headstock's, or the layer a
            forward of its own.
    """
    if "forward" in layer.__dict__ and not _turns(layer):
        raise UnsupportedFeature(
            "a layer must have the forward of its class to be given other RoPE parameters, got a "
            f"{type(layer).__name__} with one of its own; take it off first"
        )
    rotary = rotary_module(model, layer)
    if rotary is None:
        raise UnsupportedFeature(
            f"a layer must have a rotary module above it to be given other RoPE parameters, got {type(layer).__name__} "
            "without; override the attention or the mask alone"
        )
    kind = _layer_type(rotary, layer)
    difference = None if isinstance(rotary, RotaryEmbedding) else rotary_difference(rotary, kind, rows=1)
    if difference is not None:
        raise UnsupportedFeature(
            f"the position embeddings of {type(layer).__name__} must be what headstock makes of the model's own "
            f"parameters to be replaced, got {type(rotary).__name__}, which {difference}"
        )
    return rotary_of(given, RopeParameters.from_config(rotary.config, kind))


def rotary_module(model: nn.Module, layer: nn.Module) -> nn.Module | None:
    """The rotary module of the model that the layer is part of: the nearest one above it."""
    name = next(each for each, module in model.named_modules() if module is layer)
    parts = name.split(".")
    for end in range(len(parts) - 1, -1, -1):
        for child in model.get_submodule(".".join(parts[:end])).children():
            if "RotaryEmbedding" in type(child).__name__ and hasattr(child, "config"):
                return child
    return None


def switch(layer: nn.Module) -> None:
    """Let the layer's forward turn, or not, as is set for it.

    A forward of the instance's own and not a hook: compiled code notices the one and not the other (torch 2.13).
    """
    if ROPE_SETTINGS.layers(layer):
        layer.__dict__["forward"] = MethodType(_turned_forward, layer)
    elif _turns(layer):
        del layer.__dict__["forward"]


def check(layer: nn.Module) -> None:
    """Refuse where somebody else has replaced the layer's forward since.

    Raises:
        MisplacedScope: somebody did.
    """
    if not _turns(layer):
        raise MisplacedScope(
            f"the forward of an overridden {type(layer).__name__} must be as the override left it to be restored, got "
            f"{layer.__dict__.get('forward')!r}, set since; headstock.overrides.reset(model) takes everything off"
        )


def _turns(layer: nn.Module) -> bool:
    return getattr(layer.__dict__.get("forward"), "__func__", None) is _turned_forward


def _turned_forward(layer: nn.Module, *arguments: Any, **keywords: Any) -> Any:
    return type(layer).forward(layer, *arguments, **turn(layer, keywords))


def turn(layer: nn.Module, keywords: dict[str, Any]) -> dict[str, Any]:
    """The keywords of an overridden layer with other position embeddings for the same positions.

    Raises:
        UnsupportedFeature: the layer is not given cosines, sines and positions by name.
        InvalidShape: the model rotates another part of its heads.
    """
    setting = ROPE_SETTINGS.of(layer)
    if setting is None:
        return keywords
    given, positions = keywords.get(_EMBEDDINGS), keywords.get(_POSITIONS)
    pair = given if isinstance(given, tuple | list) and all(isinstance(each, Tensor) for each in given) else ()
    if len(pair) != 2 or not isinstance(positions, Tensor):
        raise UnsupportedFeature(
            f"an overridden {type(layer).__name__} must be given position_embeddings (cosines, sines) and position_ids "
            "by name, got "
            f"{type(given).__name__} and {type(positions).__name__}; pass position_ids to the model, or undo the rope "
            "override"
        )
    cos, sin = setting.rotary(pair[0], positions)
    if cos.shape[-1] != pair[0].shape[-1]:
        raise InvalidShape(
            f"other position embeddings of {type(layer).__name__} must be as wide as the model's, {pair[0].shape[-1]} "
            f"channels, got {cos.shape[-1]}"
        )
    return {**keywords, _EMBEDDINGS: (cos, sin)}


def said(model: nn.Module, layer: nn.Module) -> Said:
    """What the configuration says of the layer's position embeddings."""
    rotary = rotary_module(model, layer)
    if rotary is None:
        return Said("none", "config")
    if isinstance(rotary, RotaryEmbedding):
        return Said(repr(rotary.rope_parameters), "config")
    return Said(repr(RopeParameters.from_config(rotary.config, _layer_type(rotary, layer))), "config")


def _layer_type(rotary: nn.Module, layer: nn.Module) -> str | None:
    """Which of the configuration's sets of parameters the layer has, where there are several."""
    sets = getattr(rotary.config, "rope_parameters", None) or {}
    kinds = getattr(rotary.config, "layer_types", None) or []
    if not any(kind in sets for kind in kinds):
        return None
    places = (getattr(each, "layer_idx", None) for each in layer.modules())
    index = next((place for place in places if isinstance(place, int)), None)
    return None if index is None else str(kinds[index])
