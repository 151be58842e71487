"""Interchangeable parts of transformer models: named, local to a model where wanted, proven equal to their definition."""

__version__ = "0.1.0"
