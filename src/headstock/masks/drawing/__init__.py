"""Drawings of masks: a picture in text, as SVG and as PNG, whatever the length of the sequence."""

from headstock.masks.drawing.picture import Drawing, draw

__all__ = ["Drawing", "draw"]
