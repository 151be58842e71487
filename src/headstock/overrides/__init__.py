"""Overrides as data: which attention, mask, RoPE, checkpoint policy and layer class runs in which layers of one model.

What is here is imported when it is first used: the data are pydantic models.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstock.overrides.active import LayerSettings, settings_for
    from headstock.overrides.applying import Handle, apply, reset
    from headstock.overrides.contract import ModelKind
    from headstock.overrides.data import LayerOverrides, MaskOverride, Overrides
    from headstock.overrides.inspecting import LayerFacts, ModelReport, inspect
    from headstock.overrides.kinds import KINDS
    from headstock.overrides.patterns import LayerPattern
    from headstock.overrides.resolving import Tables
    from headstock.overrides.saving import SetupWarning, load_overrides, overrides_metadata, save_overrides
    from headstock.overrides.scoping import overriding

_HOMES = {
    "Handle": "applying",
    "KINDS": "kinds",
    "LayerOverrides": "data",
    "LayerPattern": "patterns",
    "LayerSettings": "active",
    "MaskOverride": "data",
    "ModelKind": "contract",
    "Overrides": "data",
    "SetupWarning": "saving",
    "Tables": "resolving",
    "LayerFacts": "inspecting",
    "ModelReport": "inspecting",
    "apply": "applying",
    "inspect": "inspecting",
    "load_overrides": "saving",
    "overrides_metadata": "saving",
    "save_overrides": "saving",
    "overriding": "scoping",
    "reset": "applying",
    "settings_for": "active",
}

__all__ = [
    "KINDS",
    "Handle",
    "LayerFacts",
    "LayerOverrides",
    "LayerPattern",
    "LayerSettings",
    "MaskOverride",
    "ModelKind",
    "ModelReport",
    "Overrides",
    "SetupWarning",
    "Tables",
    "apply",
    "inspect",
    "load_overrides",
    "overrides_metadata",
    "overriding",
    "reset",
    "save_overrides",
    "settings_for",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
