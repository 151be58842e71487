"""The models of this library, and whatever is built from their parts."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from headstock.attention import AttentionInterface
from headstock.layers import GradientCheckpointingLayer
from headstock.layers.checkpointing.switch import checkpointing_layers
from headstock.masks import bidirectional, causal, sliding_window
from headstock.models.attending import SelfAttention
from headstock.models.llama import LlamaForCausalLM
from headstock.models.llama.layers import LlamaBlock
from headstock.overrides.contract import ModelKind, Modules, Said
from headstock.overrides.rotary import rotary_of
from headstock.rope.embedding import RotaryEmbedding

__all__ = ["ReferenceModels"]


class ReferenceModels(ModelKind):
    """Models that look attention up through `models.attending`, and layers that headstock checkpoints."""

    name = "headstock's models"

    def takes(self, model: nn.Module) -> bool:
        """Whether there is anything of ours in it."""
        return any(isinstance(each, SelfAttention | GradientCheckpointingLayer) for each in model.modules())

    def attention(self, model: nn.Module) -> Modules:
        """The self-attention modules."""
        return _instances(model, SelfAttention)

    def interface(self, module: nn.Module) -> AttentionInterface:
        """The layer's overlay."""
        interface: AttentionInterface = module.interface  # type: ignore[assignment]
        return interface

    def checkpointing(self, model: nn.Module) -> Modules:
        """The checkpointing layers."""
        if not _instances(model, GradientCheckpointingLayer):
            return {}
        checkpointing_layers(model)  # refuses those whose forward was replaced
        return _instances(model, GradientCheckpointingLayer)

    def rotating(self, model: nn.Module) -> Modules:
        """The blocks that rotate queries and keys, of models that hand each its own embeddings."""
        return {name: block for name, block in _blocks(model).items() if _rotates(block)}

    def rotary(self, model: nn.Module, layer: nn.Module, given: Mapping[str, Any]) -> RotaryEmbedding:
        """Embeddings whose variant is looked up in the model's own table."""
        owner = next(each for each in _decoders(model).values() if any(layer is block for block in each.layers))
        return rotary_of(given, owner.config.rope, owner.rope)

    def attention_said(self, module: nn.Module) -> Said:
        """The name that `set_attention` gave."""
        return Said(str(module.implementation), "model")

    def mask_said(self, model: nn.Module, module: nn.Module) -> Said:
        """Causal, in a window or not, or bidirectional."""
        for owner in _decoders(model).values():
            windows = {id(block.self_attn): owner.model.windows[place] for place, block in enumerate(owner.layers)}
            if windows.get(id(module)) is not None:
                return Said(repr(sliding_window(windows[id(module)] or 0)), "model")
        return Said(repr(causal() if getattr(module, "is_causal", False) else bidirectional()), "model")

    def rope_said(self, model: nn.Module, layer: nn.Module) -> Said:
        """The configuration's."""
        for owner in _decoders(model).values():
            if any(layer is block for block in owner.layers):
                return Said(repr(owner.config.rope) if _rotates(layer) else "none", "model")
        return Said("none", "model")

    def checkpoint_said(self, layer: nn.Module) -> Said:
        """What `set_gradient_checkpointing` said."""
        if not layer.gradient_checkpointing:
            return Said("off", "model")
        return Said(repr(layer._gradient_checkpointing_func), "model")


def _rotates(block: nn.Module) -> bool:
    return isinstance(block, LlamaBlock) and block.self_attn.rotates


def _decoders(model: nn.Module) -> dict[str, LlamaForCausalLM]:
    return {name: each for name, each in model.named_modules() if isinstance(each, LlamaForCausalLM)}


def _blocks(model: nn.Module) -> dict[str, LlamaBlock]:
    kept = {id(block) for owner in _decoders(model).values() for block in owner.layers}
    named = model.named_modules(remove_duplicate=False)
    return {name: each for name, each in named if isinstance(each, LlamaBlock) and id(each) in kept}


def _instances(model: nn.Module, cls: type[nn.Module]) -> dict[str, nn.Module]:
    return {name: each for name, each in model.named_modules(remove_duplicate=False) if isinstance(each, cls)}
