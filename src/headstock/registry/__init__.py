"""Named components in dict-like tables: shared tables, local overlays, scopes, provenance, plug-ins. Needs no torch."""

from headstock.registry.chain import Link
from headstock.registry.changes import CHANGES, Changes
from headstock.registry.contract import Declaration, Description, Provenance
from headstock.registry.declaration import declaration_of, declare
from headstock.registry.interface import Interface
from headstock.registry.overlay import Overlay
from headstock.registry.plugins import PluginStub
from headstock.registry.scopes import CapturedScopes, Scope, capture_scopes
from headstock.registry.suggest import unknown_name
from headstock.registry.table import Registry

__all__ = [
    "CHANGES",
    "CapturedScopes",
    "Changes",
    "Declaration",
    "Description",
    "Interface",
    "Link",
    "Overlay",
    "PluginStub",
    "Provenance",
    "Registry",
    "Scope",
    "capture_scopes",
    "declaration_of",
    "declare",
    "unknown_name",
]
