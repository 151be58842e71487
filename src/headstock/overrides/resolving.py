"""From overrides and a model to what has to be set on which modules: everything that can be refused is refused here."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import nn

from headstock.attention import AUTO, AttentionInterface
from headstock.attention.settings import LayerSettings
from headstock.errors import HeadstockError, UnknownName
from headstock.layers.checkpointing.contract import CheckpointPolicy
from headstock.layers.checkpointing.settings import CheckpointSetting
from headstock.layers.checkpointing.switch import plan_of
from headstock.layers.checkpointing.table import ALL_CHECKPOINT_POLICIES
from headstock.layers.contract import LayerComponent
from headstock.masks import Mask
from headstock.masks.table import ALL_MASK_PATTERNS
from headstock.overrides.contract import ModelKind
from headstock.overrides.data import MaskOverride, Overrides
from headstock.overrides.kinds import kind_of
from headstock.overrides.matching import Entry, entries_of
from headstock.registry import Link, unknown_name
from headstock.rope.settings import RopeSetting

__all__ = ["OFF", "Resolution", "Tables", "Target", "named", "resolve"]

OFF = "off"


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Where the names in overrides are looked up; None is the model's own tables, else the shared ones.

    Attributes:
        attention: attention functions.
        masks: mask patterns.
        policies: checkpoint policies.
        layers: components of layers.
    """

    attention: AttentionInterface | None = None
    masks: Mapping[str, Any] | None = None
    policies: Link[CheckpointPolicy] | None = None
    layers: Mapping[str, LayerComponent] | None = None


class Target(NamedTuple):
    """A module, its name in the model, and what is set for it."""

    name: str
    module: nn.Module
    value: Any


@dataclass
class Resolution:
    """What overrides come to in one model.

    Attributes:
        model: the model.
        kind: its kind.
        settings: by field of `contract.FIELDS`, each module once.
        classes: the modules to be replaced, with the name of the class that takes over.
    """

    model: nn.Module
    kind: ModelKind
    settings: dict[str, list[Target]] = field(default_factory=dict)
    classes: list[Target] = field(default_factory=list)


def resolve(model: nn.Module, overrides: Overrides, tables: Tables, title: str) -> Resolution:
    """What `overrides` come to in `model`; nothing is changed.

    Raises:
        InvalidConfig: an entry matches nothing, or nothing that it could set.
        UnknownName: a component is not registered.
        UnsupportedFeature: the model cannot be overridden so.
    """
    found = Resolution(model, kind_of(model))
    entries = entries_of(model, overrides)
    found.settings["attention"] = list(_attention(found, entries, tables, title))
    found.settings["rope"] = list(_rope(found, entries, title))
    found.settings["checkpoint"] = list(_checkpoint(found, entries, tables, title))
    found.classes = _classes(found, entries)
    return found


def _attention(found: Resolution, entries: list[Entry], tables: Tables, title: str) -> Iterator[Target]:
    wanted: dict[int, Target] = {}
    if not any({"attention", "mask"} & each.said.keys() for each in entries):
        return
    modules = found.kind.attention(found.model)
    for entry in entries:
        settings = _entry_settings(entry, tables, title)
        if settings is None:
            continue
        matched = entry.within(modules, "attention")
        with named(entry):
            found.kind.check_attention(found.model, matched)
            for name, module in matched.items():
                _check_name(settings, found.kind.interface(module))
                before = wanted.get(id(module))
                value = settings if before is None else settings.over(before.value)
                wanted[id(module)] = Target(name, module, value)
    yield from wanted.values()


def _entry_settings(entry: Entry, tables: Tables, title: str) -> LayerSettings | None:
    name, mask = entry.said.get("attention"), entry.said.get("mask")
    if name is None and mask is None:
        return None
    origin = f"{title}, {entry.title}"
    return LayerSettings(
        implementation=name,
        interface=None if name is None else tables.attention,
        mask=None if mask is None else _parsed(entry, mask, tables),
        replaces_mask=mask is not None and mask.replace is not None,
        origin={field: origin for field, said in (("implementation", name), ("mask", mask)) if said is not None},
    )


def _parsed(entry: Entry, mask: MaskOverride, tables: Tables) -> Mask:
    with named(entry):
        return Mask.parse(mask.text, patterns=ALL_MASK_PATTERNS if tables.masks is None else tables.masks)


def _check_name(settings: LayerSettings, interface: AttentionInterface) -> None:
    name, table = settings.implementation, interface if settings.interface is None else settings.interface
    if name is None or name == AUTO:
        return
    if name not in table:
        raise UnknownName(unknown_name(table.kind, name, {AUTO, *table}))
    table[name]  # loads a plug-in


def _rope(found: Resolution, entries: list[Entry], title: str) -> Iterator[Target]:
    wanted: dict[int, Target] = {}
    for entry in entries:
        if "rope" not in entry.said:
            continue
        for name, layer in entry.within(found.kind.rotating(found.model), "rotary position embeddings").items():
            with named(entry):
                rotary = found.kind.rotary(found.model, layer, entry.said["rope"])
            setting = RopeSetting(rotary=rotary, key=repr(rotary), origin=f"{title}, {entry.title}")
            wanted[id(layer)] = Target(name, layer, setting)
    yield from wanted.values()


def _checkpoint(found: Resolution, entries: list[Entry], tables: Tables, title: str) -> Iterator[Target]:
    """A policy chooses among the layers for which its entry is the last one."""
    wanted: dict[int, tuple[str, nn.Module, Entry]] = {}
    for entry in entries:
        if "checkpoint" in entry.said:
            layers = entry.within(found.kind.checkpointing(found.model), "layers that can be checkpointed")
            wanted.update({id(layer): (name, layer, entry) for name, layer in layers.items()})
    for entry in entries:
        own = {name: layer for name, layer, last in wanted.values() if last is entry}
        if own:
            origin = f"{title}, {entry.title}"
            policy, plan = _plan(found.kind, entry, own, tables)
            for name, layer in own.items():
                function = plan.get(name)
                chosen = policy if function is not None else None
                yield Target(name, layer, CheckpointSetting(function=function, policy=chosen, origin=origin))


def _plan(kind: ModelKind, entry: Entry, layers: dict[str, nn.Module], tables: Tables) -> tuple[str, dict[str, Any]]:
    said = entry.said["checkpoint"]
    options = {} if isinstance(said, str) else {name: value for name, value in said.items() if name != "policy"}
    policy = said if isinstance(said, str) else said["policy"]
    if policy == OFF and not options:
        return OFF, {}
    with named(entry):
        kind.check_checkpoint(options)
        if isinstance(options.get("inner"), str):  # a policy of every_k, by its name too
            options["inner"] = (ALL_CHECKPOINT_POLICIES if tables.policies is None else tables.policies)[
                options["inner"]
            ]
        return plan_of(layers, policy, interface=tables.policies, **options)  # type: ignore[arg-type]  # policies read names


def _classes(found: Resolution, entries: list[Entry]) -> list[Target]:
    wanted: dict[int, Target] = {}
    for entry in entries:
        if "layer" in entry.said:
            for name, module in entry.exactly(found.model).items():
                wanted[id(module)] = Target(name, module, (entry, entry.said["layer"]))
    return list(wanted.values())


@contextmanager
def named(entry: Entry) -> Iterator[None]:
    """Say of an error which entry it is about."""
    try:
        yield
    except HeadstockError as error:
        raise type(error)(f"{entry.title}: {error}") from error
