"""`headstock demo`: real models with interchangeable components, every equality checked."""

from headstock.cli.demo.story import tell

__all__ = ["tell"]
