"""What is set for a module now, for those who run it."""

from headstock.attention.settings import LayerSettings, settings_for

__all__ = ["LayerSettings", "settings_for"]
