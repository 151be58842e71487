"""The exceptions that users of headstock catch, each also the built-in that a caller would expect."""

__all__ = [
    "BrokenPlugin",
    "ConfigWarning",
    "DuplicateName",
    "FrozenTable",
    "HeadstockError",
    "InvalidComponent",
    "InvalidConfig",
    "InvalidShape",
    "MisplacedScope",
    "MissingDependency",
    "UnknownName",
    "UnknownVariant",
    "UnsupportedFeature",
    "WrongResult",
]


class HeadstockError(Exception):
    """Every error that headstock raises on purpose."""


class UnknownName(HeadstockError, KeyError):
    """A name that no layer of a table holds."""

    def __str__(self) -> str:
        # KeyError prints the repr of its argument, which would put the sentence in quotes.
        return str(self.args[0]) if self.args else ""


class DuplicateName(HeadstockError, ValueError):
    """A name, or a declaration, that is taken already."""


class InvalidComponent(HeadstockError, TypeError):
    """An object that cannot be a component, or a parent, of the table it was given to."""


class FrozenTable(HeadstockError, RuntimeError):
    """A write to a shared table after it was frozen."""


class MisplacedScope(HeadstockError, RuntimeError):
    """A scope that is opened or left where it could not be honoured."""


class BrokenPlugin(HeadstockError, ImportError):
    """A plug-in distribution whose component does not load."""


class UnsupportedFeature(HeadstockError, ValueError):
    """A request that the chosen component does not honour."""


class InvalidShape(HeadstockError, ValueError):
    """A tensor whose shape or dtype does not fit the others of the call."""


class InvalidConfig(HeadstockError, ValueError):
    """A configuration or weight file with a wrong, missing or unknown field."""


class UnknownVariant(UnknownName, InvalidConfig):
    """A configuration that names what no table holds."""


class MissingDependency(HeadstockError, ImportError):
    """An optional package that the call needs and that is not installed."""


class WrongResult(HeadstockError, ArithmeticError):
    """A checked result that is not what the definition gives."""


class ConfigWarning(UserWarning):
    """A configuration that can be read, but says something unknown, or says one thing twice and differently."""
