"""Generation of tokens by a model, and of text as they come."""

from headstock.models.generation.loop import generate
from headstock.models.generation.sampling import Sampling
from headstock.models.generation.streaming import TextStream

__all__ = ["Sampling", "TextStream", "generate"]
