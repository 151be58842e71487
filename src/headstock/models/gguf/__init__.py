"""GGUF files: read into memory, or converted into a folder that headstock and transformers read."""

from headstock.models.gguf.checkpoint import GGUFCheckpoint, read_gguf
from headstock.models.gguf.conversion import convert_gguf

__all__ = ["GGUFCheckpoint", "convert_gguf", "read_gguf"]
