"""Tiny Llamas that agree with transformers' of the same weights, and prompts for them."""

from typing import Any

import torch
from torch import Tensor

from headstock.models.llama import LlamaConfig, LlamaForCausalLM
from tests.support.gguf import SIZES, tiny_transformer

ROPE = {"rope_type": "default", "rope_theta": 5e4}


def tiny_llama(**changed: Any) -> LlamaForCausalLM:
    """A random Llama of two layers in evaluation mode."""
    config = LlamaConfig(**{**SIZES, "rope_parameters": ROPE, **changed})
    return LlamaForCausalLM(config, attention="sdpa").eval()


def pair(**changed: Any) -> tuple[LlamaForCausalLM, Any]:
    """The same random Llama here and in transformers."""
    theirs = tiny_transformer("llama", **changed)
    ours = tiny_llama(**changed)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def left_padded(lengths: list[int], vocabulary: int = 96) -> tuple[Tensor, Tensor]:
    """Random prompts of these lengths, padded on the left to the longest, and their mask."""
    most = max(lengths)
    ids = torch.randint(3, vocabulary, (len(lengths), most))
    keep = torch.arange(most) >= most - torch.tensor(lengths)[:, None]
    return ids.masked_fill(~keep, 0), keep
