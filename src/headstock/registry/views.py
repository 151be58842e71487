"""Views of a table's entries that load no plug-in and hold while another thread writes."""

from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from typing import TypeVar

__all__ = ["LiveItems", "LiveValues"]

T = TypeVar("T")


class LiveValues(ValuesView[T]):
    """The values of `mapping`; each iteration goes over the `snapshot` of its start."""

    def __init__(self, mapping: Mapping[str, T], snapshot: Callable[[], dict[str, T]]) -> None:
        super().__init__(mapping)
        self._snapshot = snapshot

    def __iter__(self) -> Iterator[T]:
        return iter(self._snapshot().values())

    def __contains__(self, value: object) -> bool:
        return value in self._snapshot().values()


class LiveItems(ItemsView[str, T]):
    """The items of `mapping`; each iteration goes over the `snapshot` of its start."""

    def __init__(self, mapping: Mapping[str, T], snapshot: Callable[[], dict[str, T]]) -> None:
        super().__init__(mapping)
        self._snapshot = snapshot

    def __iter__(self) -> Iterator[tuple[str, T]]:
        return iter(self._snapshot().items())

    def __contains__(self, item: object) -> bool:
        return any(each == item for each in self)
