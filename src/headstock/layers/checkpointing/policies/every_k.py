"""`every_k`: one layer in k is checkpointed, counted in each stack of layers by itself."""

from collections import Counter

from headstock.errors import InvalidConfig
from headstock.layers.checkpointing.contract import CheckpointFunction, CheckpointPolicy, Layers
from headstock.layers.checkpointing.policies.full import full

__all__ = ["every_k", "stack_of"]


def every_k(
    layers: Layers, *, k: int = 2, inner: CheckpointPolicy = full, use_reentrant: bool = False
) -> dict[str, CheckpointFunction]:
    """Checkpoint the first of every k layers of each stack, and let the others keep their activations.

    Layers whose names differ only in their last index (`encoder.layers.0`, `encoder.layers.1`) are one stack, and each
    stack counts from 0: an encoder and a decoder, or two models, never shift each other.

    Args:
        layers: the model's checkpointing layers by name.
        k: the distance between two checkpointed layers; 1 checkpoints all.
        inner: the policy that says how the chosen layers are checkpointed.
        use_reentrant: torch's mode, for `inner`.

    Raises:
        InvalidConfig: k is not a positive integer.

    Example:
        >>> from headstock.layers.checkpointing.policies import every_k
        >>> list(every_k({"encoder.0": None, "encoder.1": None, "encoder.2": None, "decoder.0": None}, k=2))
        ['encoder.0', 'encoder.2', 'decoder.0']
    """
    if type(k) is not int or k < 1:
        raise InvalidConfig(f"k of every_k must be a positive integer, got {k!r}; 1 checkpoints every layer")
    seen: Counter[str] = Counter()
    chosen = {}
    for name, layer in layers.items():
        stack = stack_of(name)
        if seen[stack] % k == 0:
            chosen[name] = layer
        seen[stack] += 1
    return dict(inner(chosen, use_reentrant=use_reentrant))


def stack_of(name: str) -> str:
    """The stack that a layer is counted in: its name with the last index, else the last part, left open."""
    parts = name.split(".")
    indices = [place for place, part in enumerate(parts) if part.isdecimal()]
    parts[indices[-1] if indices else -1] = "*"
    return ".".join(parts)
