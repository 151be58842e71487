"""Small models with checkpointing layers, and what tests measure on them: gradients, runs, bytes kept for backward."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from headstock.layers.checkpointing import GradientCheckpointingLayer

__all__ = [
    "Block",
    "CacheRecorder",
    "Cell",
    "Encoder",
    "EncoderDecoder",
    "Run",
    "gradient",
    "kept_bytes",
    "run",
    "same",
]


class Block(GradientCheckpointingLayer):
    """A feed-forward block that also reads a keyword tensor, a nest of tensors, and drops out."""

    def __init__(self, width: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)
        self.runs = 0

    def forward(
        self, hidden_states: Tensor, scale: Tensor | None = None, *, gates: tuple[Tensor, ...] = (), **extras: Any
    ) -> Tensor:
        _count(self)
        inner: Tensor = self.dropout(torch.nn.functional.gelu(self.up(hidden_states)))
        outer: Tensor = self.dropout(self.down(inner))
        for gate in gates:
            outer = outer * torch.sigmoid(gate)
        if scale is not None:
            outer = outer * scale
        return hidden_states + outer


class Encoder(nn.Module):
    """A stack of blocks, each of which gets its own element of every keyword."""

    def __init__(self, layers: int = 3, width: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Block(width, dropout) for _ in range(layers)])

    @property
    def runs(self) -> list[int]:
        return [layer.runs for layer in self.layers if isinstance(layer, Block)]

    def forward(self, hidden_states: Tensor, **keywords: Sequence[Any]) -> Tensor:
        for index, layer in enumerate(self.layers):
            hidden_states = layer(hidden_states, **{name: values[index] for name, values in keywords.items()})
        return hidden_states


class EncoderDecoder(nn.Module):
    """Two stacks with an odd number of layers each, so that a count across them would shift the second."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Encoder()

    def forward(self, hidden_states: Tensor) -> Tensor:
        hidden: Tensor = self.decoder(self.encoder(hidden_states))
        return hidden


class Cell(GradientCheckpointingLayer):
    """Any function of the arguments as a layer, with one weight."""

    def __init__(self, function: Callable[..., Any], width: int = 4) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width))
        self.function = function
        self.runs = 0

    def forward(self, *args: Any, **keywords: Any) -> Any:
        _count(self)
        return self.function(self.weight, *args, **keywords)


def _count(layer: "Block | Cell") -> None:
    if not torch.compiler.is_compiling():  # a graph has no side effects
        layer.runs += 1


class CacheRecorder:
    """A key-value cache that counts its writes."""

    def __init__(self) -> None:
        self.writes = 0

    def update(self, key: Tensor, value: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        self.writes += 1
        return key, value

    def get_seq_length(self) -> int:
        return self.writes


@dataclass(frozen=True)
class Run:
    """What one forward and backward gave."""

    output: Tensor
    gradients: dict[str, Tensor | None] = field(default_factory=dict)


def run(model: nn.Module, call: Callable[..., Tensor] | None = None, /, **tensors: Tensor) -> Run:
    """The output of `call(**tensors)`, and the gradients of its sum of squares for the tensors and the parameters."""
    leaves = {name: value.detach().clone().requires_grad_(value.requires_grad) for name, value in tensors.items()}
    model.zero_grad()
    torch.manual_seed(0)
    output = (model if call is None else call)(**leaves)
    output.square().sum().backward()
    gradients = {name: value.grad for name, value in leaves.items()}
    gradients |= {f"parameter {name}": value.grad for name, value in model.named_parameters()}
    return Run(output.detach(), {name: None if grad is None else grad.clone() for name, grad in gradients.items()})


def same(one: Run, other: Run) -> bool:
    """Whether two runs agree bit by bit: checkpointing repeats the same operations in the same order."""
    assert one.gradients.keys() == other.gradients.keys()
    pairs = [(one.gradients[name], other.gradients[name]) for name in one.gradients]
    return torch.equal(one.output, other.output) and all(
        a is b if a is None or b is None else torch.equal(a, b) for a, b in pairs
    )


def gradient(tensor: Tensor) -> Tensor:
    """The gradient that a tensor has got, taken from it."""
    found, tensor.grad = tensor.grad, None
    assert found is not None
    return found


@contextlib.contextmanager
def kept_bytes(model: nn.Module) -> Iterator[Callable[[], int]]:
    """The bytes that autograd keeps for backward inside the block: each storage once, without the parameters."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield lambda: sum(storages.values())
