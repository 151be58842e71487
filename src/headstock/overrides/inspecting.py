"""`inspect`: what runs in every layer of a model, and where it was set."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from headstock.attention import AUTO
from headstock.attention.settings import ATTENTION_SETTINGS, LayerSettings
from headstock.layers.checkpointing.settings import CHECKPOINT_SETTINGS
from headstock.overrides.contract import ModelKind, Modules, Said
from headstock.overrides.kinds import kind_of
from headstock.overrides.swapping import swapped
from headstock.rope.settings import ROPE_SETTINGS

__all__ = ["LayerFacts", "ModelReport", "inspect"]

_NONE = Said("none", "model")
_UNNAMED = Said("not looked up by name", "model")


@dataclass(frozen=True)
class LayerFacts:
    """What runs in one layer, here and now; each fact with where it was set.

    Attributes:
        name: of the module that attends, or of a layer without one.
        module: the name of its class.
        attention: the name that is looked up.
        function: what that name stands for: the component and the layer of the table that holds it.
        mask: what may attend to what, padding aside.
        rope: the position embeddings.
        checkpoint: how the layer around it is checkpointed.
    """

    name: str
    module: str
    attention: Said
    function: Said
    mask: Said
    rope: Said
    checkpoint: Said


@dataclass(frozen=True)
class ModelReport:
    """What runs in every layer of a model; prints as text, one block for layers that are alike.

    Attributes:
        model: the name of its class.
        layers: layer by layer, in the model's order.
        replaced: by name, modules that took the place of others: what was there and what is.
        notes: what else there is to say.
    """

    model: str
    layers: tuple[LayerFacts, ...]
    replaced: dict[str, tuple[str, str]]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report in JSON's types."""
        found = asdict(self)
        found["layers"] = [_plain(each) for each in self.layers]
        return found

    def __str__(self) -> str:
        lines = [f"{self.model}: {len(self.layers)} layer{'' if len(self.layers) == 1 else 's'}"]
        for names, facts in _alike(self.layers):
            lines += [f"{names} ({facts.module})", *_fact_lines(facts)]
        lines += [f"{name}: {now} in the place of {was}" for name, (was, now) in self.replaced.items()]
        return "\n".join([*lines, *(f"note: {each}" for each in self.notes)])


def inspect(model: nn.Module) -> ModelReport:
    """What runs in every layer of `model` in this context, and where it was set; nothing is run.

    Raises:
        UnsupportedFeature: the model is of no known kind.

    Example:
        >>> from headstock.models.gpt2 import GPT2Config, GPT2LMHeadModel
        >>> from headstock.overrides import Overrides, inspect, overriding
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=10, n_embd=8, n_layer=2, n_head=2))
        >>> with overriding(model, Overrides.from_dict({"layers": {"h.1": {"attention": "eager"}}})):
        ...     print(inspect(model))
        GPT2LMHeadModel: 2 layers
        transformer.h.0.attn (GPT2Attention)
          attention   auto                                 [model]
          function    chosen in each call                  [attention]
          mask        causal()                             [model]
          rope        none                                 [model]
          checkpoint  off                                  [model]
        transformer.h.1.attn (GPT2Attention)
          attention   eager                                [with block, layers[0] 'h.1']
          function    headstock.attention.eager.eager_attention  [shared]
          mask        causal()                             [model]
          rope        none                                 [model]
          checkpoint  off                                  [model]
    """
    kind = kind_of(model)
    replaced = {name: (was.__name__, now.__name__) for name, (was, now) in swapped(model).items()}
    return ModelReport(type(model).__name__, tuple(_facts(kind, model)), replaced, kind.notes(model))


def _facts(kind: ModelKind, model: nn.Module) -> Iterator[LayerFacts]:
    attention, layers, rotating = kind.attention(model), kind.checkpointing(model), kind.rotating(model)
    seen: set[int] = set()
    inner = {id(module) for layer in layers.values() for module in layer.modules()}
    without = {name: layer for name, layer in layers.items() if not _holds(layer, attention)}
    for name, module in model.named_modules():
        if id(module) in seen or (name not in attention and name not in without):
            continue
        seen.add(id(module))
        layer = _around(name, layers) if id(module) in inner else None
        rope = _around(name, rotating)
        yield LayerFacts(
            name,
            type(module).__name__,
            *(_attention_facts(kind, model, module) if name in attention else (_UNNAMED, _UNNAMED, _NONE)),
            _NONE if rope is None else _rope(kind, model, rope),
            Said("impossible", "model") if layer is None else _checkpoint(kind, layer),
        )


def _attention_facts(kind: ModelKind, model: nn.Module, module: nn.Module) -> tuple[Said, Said, Said]:
    settings = ATTENTION_SETTINGS.of(module) or LayerSettings()
    said = kind.attention_said(module)
    interface = kind.interface(module)
    if settings.implementation is not None:
        said = Said(settings.implementation, settings.origin.get("implementation", ""))
        interface = interface if settings.interface is None else settings.interface
    function = Said("chosen in each call", "attention") if said.text == AUTO else Said("transformers' own", "config")
    if said.text in interface:
        where = interface.where(said.text)
        function = Said(where.component, where.layer)
    return said, function, _mask(kind.mask_said(model, module), settings)


def _mask(own: Said, settings: LayerSettings) -> Said:
    if settings.mask is None:
        return own
    text = f"{settings.mask!r}, and padding" if settings.replaces_mask else f"{own.text} & ({settings.mask!r})"
    return Said(text, settings.origin.get("mask", ""))


def _rope(kind: ModelKind, model: nn.Module, layer: nn.Module) -> Said:
    setting = ROPE_SETTINGS.of(layer)
    if setting is None:
        return kind.rope_said(model, layer)
    return Said(repr(setting.rotary.rope_parameters), setting.origin)


def _checkpoint(kind: ModelKind, layer: nn.Module) -> Said:
    setting = CHECKPOINT_SETTINGS.of(layer)
    if setting is None:
        return kind.checkpoint_said(layer)
    return Said("off" if setting.function is None else f"{setting.policy}: {setting.function!r}", setting.origin)


def _holds(layer: nn.Module, attention: Modules) -> bool:
    inside = {id(module) for module in layer.modules()}
    return any(id(module) in inside for module in attention.values())


def _around(name: str, layers: Modules) -> nn.Module | None:
    """The innermost of `layers` that the module `name` is, or lies in."""
    parts = name.split(".")
    names = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((layers[each] for each in names if each in layers), None)


def _alike(layers: tuple[LayerFacts, ...]) -> Iterator[tuple[str, LayerFacts]]:
    """Runs of layers that differ in nothing but their numbers, as one: `layers.0-3.self_attn`."""
    start = 0
    for end in range(1, len(layers) + 1):
        if end == len(layers) or not _follows(layers[end - 1], layers[end]):
            yield _span(layers[start].name, layers[end - 1].name), layers[start]
            start = end


def _follows(before: LayerFacts, after: LayerFacts) -> bool:
    if _fact_lines(before) != _fact_lines(after) or before.module != after.module:
        return False
    first, second = before.name.split("."), after.name.split(".")
    changed = [(one, two) for one, two in zip(first, second, strict=False) if one != two]
    if len(first) != len(second) or len(changed) != 1:
        return False
    one, two = changed[0]
    return one.isdecimal() and two.isdecimal() and int(two) == int(one) + 1


def _span(first: str, last: str) -> str:
    pairs = zip(first.split("."), last.split("."), strict=True)
    return ".".join(one if one == two else f"{one}-{two}" for one, two in pairs)


def _fact_lines(facts: LayerFacts) -> list[str]:
    return [f"  {field:<11} {said.text:<35}  [{said.origin}]" for field, said in _saids(facts)]


def _saids(facts: LayerFacts) -> Iterator[tuple[str, Said]]:
    for field in ("attention", "function", "mask", "rope", "checkpoint"):
        yield field, getattr(facts, field)


def _plain(facts: LayerFacts) -> dict[str, Any]:
    plain: dict[str, Any] = {"name": facts.name, "module": facts.module}
    return {**plain, **{field: said._asdict() for field, said in _saids(facts)}}
