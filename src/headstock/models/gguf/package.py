"""The package `gguf`, imported when a file is read and not before."""

from types import ModuleType

from headstock.errors import MissingDependency

__all__ = ["gguf_package"]


def gguf_package() -> ModuleType:
    """The module `gguf`: names of fields and tensors, sizes of blocks, dequantisation.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        import gguf
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in {"gguf", "numpy", "requests", "tqdm", "yaml"}:
            raise
        raise MissingDependency(
            f"the package {error.name} must be installed to read GGUF files, got none; pip install 'headstock[gguf]'"
        ) from None
    return gguf
