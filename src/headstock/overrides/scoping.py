"""`overriding`: overrides that hold inside a `with` block, for one context."""

from dataclasses import replace

from torch import nn

from headstock.errors import UnsupportedFeature
from headstock.overrides.contract import FIELDS
from headstock.overrides.data import Overrides
from headstock.overrides.resolving import Resolution, Tables, resolve
from headstock.registry.scopes import Scope

__all__ = ["overriding"]


def overriding(
    model: nn.Module, overrides: Overrides, *, tables: Tables | None = None, name: str = "with block"
) -> Scope:
    """Overrides of look-ups (attention, mask, checkpoint policy) that hold inside a `with` block.

    They hold for this thread or asyncio task alone: others may run the same model meanwhile, and see nothing of it.
    They win over what was applied; of nested blocks the inner one wins, field by field. A checkpointed layer that runs
    inside sees them again when it is recomputed, in whatever thread that happens, and compiled code sees the blocks
    that are open around its call. A copy of the model that is made inside is not in the block.

    Args:
        model: as for `apply`.
        overrides: without RoPE parameters and layer classes, which change modules.
        tables: where names are looked up; the model's own tables, and behind them the shared ones, otherwise.
        name: what reports and errors call these overrides.

    Raises:
        UnsupportedFeature: the overrides name RoPE parameters or a layer class, or the model cannot be overridden so.
        InvalidConfig, UnknownName: as `apply`.

    Example:
        >>> from headstock.models.llama import LlamaConfig, LlamaForCausalLM
        >>> from headstock.overrides import Overrides, overriding, settings_for
        >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=50, hidden_size=8, intermediate_size=16,
        ...                          num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=32))
        >>> with overriding(model, Overrides.from_dict({"layers": {"layers.0": {"attention": "eager"}}})):
        ...     [settings_for(layer.self_attn) for layer in model.layers]
        [LayerSettings(implementation='eager', ...), None]
        >>> settings_for(model.layers[0].self_attn)
    """
    found = resolve(model, overrides, tables or Tables(), name)
    _refuse_changes(found)
    frames = []
    for field in ("attention", "checkpoint"):
        values = {each.module: each.value for each in found.settings[field]}
        if field == "attention":
            guards = {each.module: found.kind.guard(model, each.name) for each in found.settings[field]}
            values = {module: replace(value, guard=guards[module]) for module, value in values.items()}
        frames.append(FIELDS[field].frame(values))
    return Scope(*frames)


def _refuse_changes(found: Resolution) -> None:
    changed = [each.name for each in (*found.settings["rope"], *found.classes)]
    if changed:
        raise UnsupportedFeature(
            "overrides of a `with` block must be of look-ups (attention, mask, checkpoint), got RoPE parameters or a "
            f"layer class for {changed[0]!r}, which change the module for every thread; use apply(model, overrides)"
        )
    layers = {each.name: each.module for each in found.settings["checkpoint"]}
    if layers:
        found.kind.check_scoped_checkpoint(layers)
