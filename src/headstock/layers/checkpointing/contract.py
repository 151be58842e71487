"""What a checkpointing policy is: from a model's layers to the function that runs each of them."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from torch import Tensor

from headstock.errors import InvalidComponent

if TYPE_CHECKING:
    from headstock.layers.checkpointing.layer import GradientCheckpointingLayer

__all__ = ["CheckpointFunction", "CheckpointPolicy", "CheckpointReport", "Layers", "check_policy"]

Layers: TypeAlias = "Mapping[str, GradientCheckpointingLayer]"


class CheckpointFunction(Protocol):
    """Runs `function(*tensors)` so that backward can repeat it instead of keeping its activations.

    `torch.utils.checkpoint.checkpoint` with its options bound is one. A layer hands over every tensor among its
    arguments by position, so that both of torch's modes differentiate them.
    """

    def __call__(self, function: Callable[..., Any], /, *tensors: Tensor) -> Any:
        """What `function(*tensors)` returns."""
        ...


class CheckpointPolicy(Protocol):
    """Chooses which of a model's layers are checkpointed, and how.

    Called with `layers`, the model's checkpointing layers by qualified name in module order, with the keyword
    `use_reentrant`, and with the options that the user gave. Returns a checkpoint function for each layer to be
    checkpointed; a layer that is left out keeps its activations.
    """

    def __call__(self, layers: Layers, /, *args: Any, **options: Any) -> Mapping[str, CheckpointFunction]:
        """The checkpoint function of each layer that is checkpointed, by the layer's name."""
        ...


@dataclass(frozen=True)
class CheckpointReport:
    """What `set_gradient_checkpointing` did.

    Attributes:
        policy: the name of the policy, None where checkpointing was switched off.
        checkpointed: the names of the layers that are checkpointed now, in module order.
        plain: the names of the layers that keep their activations.
    """

    policy: str | None
    checkpointed: tuple[str, ...]
    plain: tuple[str, ...]

    def __str__(self) -> str:
        total = len(self.checkpointed) + len(self.plain)
        names = ", ".join(name or "the model itself" for name in self.checkpointed) or "none"
        return f"{self.policy or 'off'}: {len(self.checkpointed)} of {total} layers checkpointed ({names})"


def check_policy(name: str, component: object) -> None:
    """Refuse what cannot be a checkpointing policy.

    Raises:
        InvalidComponent: it is a class, or it does not take the layers by position and `use_reentrant` by keyword.
    """
    if isinstance(component, type) or not callable(component):
        raise InvalidComponent(
            f"checkpoint policy {name!r} must be a function or an object that is called, got {component!r}; "
            "register an instance of the class"
        )
    try:
        inspect.signature(component).bind({}, use_reentrant=False)
    except TypeError as error:
        raise InvalidComponent(
            f"checkpoint policy {name!r} must take (layers, *, use_reentrant, ...), further options with a default, "
            f"got {component!r} with the signature {inspect.signature(component)} ({error})"
        ) from None
