"""Drawings of masks: a picture in text, as SVG and as PNG, whatever the length of the sequence."""

from headstock.masks.drawing.axis import Axis
from headstock.masks.drawing.picture import Drawing, draw
from headstock.masks.drawing.states import State

__all__ = ["Axis", "Drawing", "State", "draw"]
