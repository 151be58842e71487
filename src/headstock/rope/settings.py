"""What is set for one layer beside its model: other position embeddings."""

from dataclasses import dataclass, field
from typing import Final

from headstock.registry.settings import Settings
from headstock.rope.embedding import RotaryEmbedding

__all__ = ["ROPE_SETTINGS", "RopeSetting"]


@dataclass(frozen=True, kw_only=True, eq=False)
class RopeSetting:
    """The position embeddings of one layer, in the place of the model's.

    Attributes:
        rotary: makes them from positions; it is no part of the model's state.
        key: equal where two layers of a model have the same embeddings, which are then made once.
        origin: where it was set.
    """

    rotary: RotaryEmbedding
    key: str
    origin: str = field(default="", repr=False)

    def over(self, below: "RopeSetting") -> "RopeSetting":  # noqa: ARG002 -- there is nothing to join
        """This one."""
        return self


ROPE_SETTINGS: Final[Settings[RopeSetting]] = Settings("rope")
