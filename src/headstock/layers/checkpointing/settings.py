"""What is set for one layer beside `set_gradient_checkpointing`: another checkpoint function, or none."""

from dataclasses import dataclass, field
from typing import Final

from headstock.layers.checkpointing.contract import CheckpointFunction
from headstock.registry.settings import Settings

__all__ = ["CHECKPOINT_SETTINGS", "CheckpointSetting"]


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckpointSetting:
    """Whether and how one layer is checkpointed, in the place of what the layer itself says.

    Attributes:
        function: the checkpoint function, None for a layer that keeps its activations.
        policy: the name of the policy that chose it, None for off.
        origin: where it was set.
    """

    function: CheckpointFunction | None
    policy: str | None
    origin: str = field(default="", repr=False)

    def over(self, below: "CheckpointSetting") -> "CheckpointSetting":  # noqa: ARG002 -- there is nothing to join
        """This one."""
        return self


CHECKPOINT_SETTINGS: Final[Settings[CheckpointSetting]] = Settings("checkpoint")
