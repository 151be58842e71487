"""headstock inside of other libraries, each in a package of its name; nothing is loaded before it is asked for."""

__all__: list[str] = []
