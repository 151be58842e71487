"""transformers' mask functions, closures over sizes and tensors, read as masks that are built of patterns."""

from headstock.integrations.transformers.reading.recognised import mask_of_function

__all__ = ["mask_of_function"]
