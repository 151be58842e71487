"""`apply`: overrides laid on one model until they are undone."""

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from torch import nn

from headstock.errors import MisplacedScope
from headstock.overrides.contract import FIELDS, ModelKind
from headstock.overrides.data import Overrides
from headstock.overrides.kinds import kind_of
from headstock.overrides.replacing import replacement
from headstock.overrides.resolving import Resolution, Tables, Target, resolve
from headstock.overrides.swapping import Swap, restore_all, swaps_for
from headstock.registry.context import new_token

__all__ = ["Change", "Handle", "apply", "reset"]

_LOCK = threading.RLock()


class Change(Protocol):
    """One change of a model, made and undone."""

    def do(self) -> None:
        """Make it."""

    def check(self) -> None:
        """Refuse where undoing would not restore what was there."""

    def undo(self) -> None:
        """Undo it."""


class Setting(NamedTuple):
    """A setting of one module."""

    kind: ModelKind
    model: nn.Module
    field: str
    target: Target
    token: str

    def do(self) -> None:
        """Lay it."""
        FIELDS[self.field].lay(self.target.module, self.token, self.target.value)
        self.kind.settled(self.field, self.target.module)

    def check(self) -> None:
        """Refuse where the module is not in its place, or what the setting did beside being read was changed."""
        places = dict(self.model.named_modules(remove_duplicate=False))
        if places.get(self.target.name) is not self.target.module:
            raise MisplacedScope(
                f"an override must be undone while its module is in its place, got {self.target.name!r}, which was "
                "replaced since; undo that first"
            )
        self.kind.check_taken(self.field, self.target.module)

    def undo(self) -> None:
        """Take it."""
        FIELDS[self.field].take(self.target.module, self.token)
        self.kind.settled(self.field, self.target.module)


class Handle:
    """Changes of one model, undone by `undo` or at the end of a `with` block.

    Several handles of one model may be undone in any order: what is left is what those that are left make, in the order
    in which they were applied. What cannot be restored exactly, since it was changed by other means since, is refused
    before anything is undone.

    Attributes:
        model: what was changed.
        is_active: whether the changes hold.
    """

    def __init__(self, model: nn.Module, changes: Sequence[Change]) -> None:
        self.model = model
        self.is_active = False
        self._changes = tuple(changes)

    def _do(self) -> Self:
        with _LOCK:
            for done, change in enumerate(self._changes):
                try:
                    change.do()
                except BaseException:
                    for each in reversed(self._changes[:done]):
                        each.undo()
                    raise
            self.is_active = True
        return self

    def undo(self) -> None:
        """Restore what was there; a second time nothing happens.

        Raises:
            MisplacedScope: something was changed by other means since; nothing is undone then. `reset` takes
                everything off a model all the same.
        """
        with _LOCK:
            if not self.is_active:
                return
            for change in self._changes:
                change.check()
            for change in reversed(self._changes):
                change.undo()
            self.is_active = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()

    def __repr__(self) -> str:
        state = "active" if self.is_active else "undone"
        return f"{type(self).__name__}({type(self.model).__name__}, {len(self._changes)} changes, {state})"


def apply(model: nn.Module, overrides: Overrides, *, tables: Tables | None = None, name: str = "overrides") -> Handle:
    """Lay `overrides` on one model; every other model, and every configuration, stays as it is.

    Everything is checked first: where anything is refused, nothing is changed. Look-ups (attention, mask, RoPE,
    checkpoint policy) are settings of single modules, read at each call; a layer class takes the place of the matched
    modules and has the same parameters. A deep copy of the model has the overrides too, as its own: undoing here
    leaves them there, and `reset(copy)` takes them off.

    Args:
        model: one of headstock's models or of transformers' (after `import headstock.integrations.transformers`).
        overrides: what holds in which layers.
        tables: where names are looked up; the model's own tables, and behind them the shared ones, otherwise.
        name: what reports and errors call these overrides, such as the file that they come from.

    Raises:
        InvalidConfig: an entry matches no module, or none that has what it sets, or a value is impossible.
        UnknownName: a component is not registered.
        InvalidComponent: a layer class cannot take over from a module.
        UnsupportedFeature: the model cannot be overridden so.

    Example:
        >>> import torch
        >>> from headstock.models.llama import LlamaConfig, LlamaForCausalLM
        >>> from headstock.overrides import Overrides, apply
        >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=50, hidden_size=8, intermediate_size=16,
        ...                          num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=32)).eval()
        >>> tokens = torch.tensor([[3, 1, 4, 1, 5]])
        >>> before = model(tokens).logits
        >>> with apply(model, Overrides.from_dict({"layers": {"layers.0": {"mask": {"join": "sliding_window(2)"}}}})):
        ...     torch.equal(model(tokens).logits, before)
        False
        >>> torch.equal(model(tokens).logits, before)
        True
    """
    with _LOCK:
        found, token = resolve(model, overrides, tables or Tables(), name), new_token()
        return Handle(model, _changes(found, tables or Tables(), token))._do()


def reset(model: nn.Module) -> None:
    """Take all overrides off a model, whoever applied them; for copies, which have no handles."""
    with _LOCK:
        restore_all(model)
        kind = kind_of(model)
        for module in model.modules():
            for field, settings in FIELDS.items():
                for token, _ in settings.layers(module):
                    settings.take(module, token)
                    kind.settled(field, module)


def _changes(found: Resolution, tables: Tables, token: str) -> list[Change]:
    swaps = _swaps(found, tables, token)
    places = {id(swap.parent._modules[swap.key]): swap.made for swap in swaps}
    settings = [
        Setting(found.kind, found.model, field, each._replace(module=places.get(id(each.module), each.module)), token)
        for field, targets in found.settings.items()
        for each in targets
    ]
    return [*swaps, *settings]


def _swaps(found: Resolution, tables: Tables, token: str) -> list[Swap]:
    from headstock.layers import ALL_LAYERS  # loads the components of layers, which most overrides do not name
    from headstock.overrides.resolving import named

    swaps: list[Swap] = []
    for target in found.classes:
        entry, name = target.value
        with named(entry):
            component = (ALL_LAYERS if tables.layers is None else tables.layers)[name]
            made = replacement(name, target.module, component)
            swaps += swaps_for(found.model, target.module, made, token)
    return swaps
