"""Random transformers models that take milliseconds, and their masks made by another module."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

__all__ = ["DECODERS", "ENCODERS", "checkpoint_layers", "masks_from", "replace_masks", "tiny"]

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 64,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}

#: model type: what its configuration needs beside the sizes
DECODERS: dict[str, dict[str, Any]] = {
    "gemma2": {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]},
    "gemma3_text": {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]},
    "llama": {},
    "llama4_text": {
        "attention_chunk_size": 4,
        "layer_types": ["chunked_attention", "full_attention"],
        "no_rope_layers": [1, 0],
        "num_local_experts": 2,
        "intermediate_size_mlp": 48,
    },
    "mistral": {"sliding_window": 4},
}
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": {},
    "modernbert": {"local_attention": 4, "global_attn_every_n_layers": 2},
}


def tiny(kind: str, implementation: str) -> Any:
    """A model of that kind with random weights, the same at every call, in evaluation mode."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **_SIZES, **(DECODERS | ENCODERS)[kind])
    auto = AutoModelForCausalLM if kind in DECODERS else AutoModel
    build: Any = auto.from_config  # untyped
    return build(config, attn_implementation=implementation).eval()


@contextmanager
def masks_from(masks: ModuleType, model: Any) -> Iterator[list[str]]:
    """Let the model's own module, and generation, take their mask functions from `masks`; tells which were called."""
    called: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for module in (type(model).__module__, "transformers.generation.utils"):
            replace_masks(patch, importlib.import_module(module), masks, called)
        yield called


def replace_masks(patch: pytest.MonkeyPatch, module: Any, masks: ModuleType, called: list[str]) -> None:
    """As if the module had imported from `masks` what it imported from transformers' `masking_utils`."""
    for name, function in vars(module).copy().items():
        if getattr(function, "__module__", None) == "transformers.masking_utils":
            patch.setattr(module, name, _noting(getattr(masks, name), name, called))


def _noting(function: Any, name: str, called: list[str]) -> Any:
    def noting(*args: Any, **keywords: Any) -> Any:
        if not torch.compiler.is_compiling():
            called.append(name)
        return function(*args, **keywords)

    return noting


def checkpoint_layers(model: Any, options: dict[str, Any] | None = None) -> None:
    """Switch checkpointing on by the name that this version of transformers has for it."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable(options)
