"""Another module in the place of one: put there, and taken out again so that the model is as it was."""

from collections.abc import Iterator
from typing import NamedTuple

from torch import nn

from headstock.errors import MisplacedScope
from headstock.overrides.contract import FIELDS

__all__ = ["Swap", "restore_all", "swapped", "swaps_for"]

_STACKS = "_headstock_swaps"


class _Entry(NamedTuple):
    """A module that stands, or stood, in a place; the lowest of a stack is the original, without a token."""

    token: str
    module: nn.Module
    laid: frozenset[str]  # tokens of settings that it had when it was put there


class Swap(NamedTuple):
    """One module in the place of another, in one of its places.

    Attributes:
        parent: holds the place.
        key: of the place in `parent._modules`.
        name: of the place in the model, for people.
        made: the module to put there.
        token: of whoever does it.
    """

    parent: nn.Module
    key: str
    name: str
    made: nn.Module
    token: str

    def do(self) -> None:
        """Put the module there."""
        stacks = self.parent.__dict__.setdefault(_STACKS, {})
        below = stacks.get(self.key) or (_Entry("", _placed(self.parent, self.key), frozenset()),)
        stacks[self.key] = (*below, _Entry(self.token, self.made, _laid(self.made)))
        self.parent._modules[self.key] = self.made

    def check(self) -> None:
        """Refuse to undo what somebody else has changed since.

        Raises:
            MisplacedScope: another module stands there, or settings were laid on the module.
        """
        stack = self.parent.__dict__.get(_STACKS, {}).get(self.key, ())
        mine = next((each for each in stack if each.token == self.token), None)
        if mine is None or _placed(self.parent, self.key) is not stack[-1].module:
            raise MisplacedScope(
                f"a replaced layer must be in its place to be taken out again, got {self.name!r}, which was changed "
                f"since (it is a {type(self.parent._modules.get(self.key)).__name__}); put back what was there"
            )
        if mine is stack[-1] and _laid(mine.module) - mine.laid:
            raise MisplacedScope(
                f"a replaced layer must be taken out after what was set for it since, got {self.name!r}, which has "
                "other overrides; undo those first"
            )

    def undo(self) -> None:
        """Take the module out; what lies below it, or the one above it, stands there then."""
        stacks = self.parent.__dict__[_STACKS]
        stack: tuple[_Entry, ...] = stacks[self.key]
        left = tuple(each for each in stack if each.token != self.token)
        if stack[-1].token == self.token:
            _put_back(self.parent, self.key, left[-1].module)
        stacks[self.key] = left
        if len(left) == 1:
            del stacks[self.key]
        if not stacks:
            del self.parent.__dict__[_STACKS]


def swaps_for(model: nn.Module, module: nn.Module, made: nn.Module, token: str) -> Iterator[Swap]:
    """The swaps that put `made` into every place of `module` in `model`."""
    for parent_name, parent in model.named_modules():
        for key, child in parent._modules.items():
            if child is module:
                yield Swap(parent, key, f"{parent_name}.{key}".lstrip("."), made, token)


def swapped(model: nn.Module) -> dict[str, tuple[type[nn.Module], type[nn.Module]]]:
    """The places whose module was replaced, by name: the class that was there, and the one that is."""
    found = {}
    for name, parent in model.named_modules():
        for key, stack in parent.__dict__.get(_STACKS, {}).items():
            found[f"{name}.{key}".lstrip(".")] = (type(stack[0].module), type(_placed(parent, key)))
    return found


def restore_all(model: nn.Module) -> None:
    """Put every original back, whoever replaced it and whatever was changed since."""
    for parent in list(model.modules()):
        for key, stack in parent.__dict__.pop(_STACKS, {}).items():
            _put_back(parent, key, stack[0].module)


def _placed(parent: nn.Module, key: str) -> nn.Module:
    module = parent._modules.get(key)
    return nn.Module() if module is None else module


def _put_back(parent: nn.Module, key: str, module: nn.Module) -> None:
    present = _placed(parent, key)
    # Parameters are shared; the mode is each module's own. Children are shared too, or there are none.
    module.training = present.training
    for name, buffer in module._buffers.items():  # of buffers that are not shared, the place alone
        now = next(iter(present._buffers.values()), None)
        if buffer is not None and now is not None and now.device != buffer.device:
            module._buffers[name] = buffer.to(now.device)
    parent._modules[key] = module


def _laid(module: nn.Module) -> frozenset[str]:
    return frozenset(token for settings in FIELDS.values() for token, _ in settings.layers(module))
