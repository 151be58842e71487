"""The package `matplotlib`, imported when an image is asked for and not before."""

from types import ModuleType

from headstock.errors import MissingDependency

__all__ = ["matplotlib_package"]


def matplotlib_package() -> ModuleType:
    """The module `matplotlib`, without `pyplot`.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        import matplotlib as mpl
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise MissingDependency(
            "the package matplotlib must be installed to draw a mask as an image, got none; "
            "pip install 'headstock[draw]', or use the drawing in text, str(drawing)"
        ) from None
    return mpl
