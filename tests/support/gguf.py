"""Tiny GGUF files, written by the package gguf from transformers' models, and raw ones, byte for byte."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import torch
import transformers
from torch import Tensor

from headstock.cli.demo.weights import SMOLLM2, package_file

SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "initializer_range": 0.3,
}
MODELS: dict[str, tuple[Any, Any]] = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
}
# Byte-level spellings of all bytes that ASCII text has, then merges, then tokens of other types.
ALPHABET = [
    "Ġ",
    "Ċ",
    *"!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~",
]


def tiny_transformer(architecture: str, **changed: Any) -> Any:
    """A random transformers model with biases that are not zero and norms that are not one."""
    config_class, model_class = MODELS[architecture]
    rope = {"rope_type": "default", "rope_theta": 5e4}
    model = model_class(config_class(**{**SIZES, "rope_parameters": rope, **changed})).eval()
    with torch.no_grad():
        for name, each in model.named_parameters():
            if each.ndim == 1:
                each.copy_(torch.randn_like(each) if "bias" in name else 1 + torch.randn_like(each) / 4)
    return model


def write_gguf(
    file: Path, model: Any, *, architecture: str, kind: str = "F32", fields: Callable[[Any], None] | None = None
) -> Path:
    """What llama.cpp's converter makes of a model: its field names, its tensor names, its order of rows."""
    config = model.config
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if fields is not None:
        fields(writer)
    for name, tensor in stored(model, architecture).items():
        quantised = gguf.GGMLQuantizationType[kind if tensor.ndim == 2 else "F32"]
        data = gguf.quants.quantize(tensor.numpy(), quantised)
        writer.add_tensor(name, data, raw_dtype=quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def stored(model: Any, architecture: str) -> dict[str, Tensor]:
    """A model's tensors under the names of a GGUF file; the rows of `llama` are those of interleaved rotation."""
    number = next(each for each, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(number, model.config.num_hidden_layers)
    found = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
            heads = tensor.shape[0] // model.config.head_dim
            # [heads, 2, half, ...] -> [heads, half, 2, ...]: the halves of a head, pair by pair.
            rows = tensor.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(tensor.shape)
        else:
            rows = tensor
        found[str(names.get_name(name, try_suffixes=(".weight", ".bias")))] = rows.contiguous()
    return found


def rounded(model: Any, kind: str) -> dict[str, Tensor]:
    """A model's tensors after they were stored in blocks of `kind`, decoded by the package gguf."""
    quantised = gguf.GGMLQuantizationType[kind]
    return {
        name: torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(tensor.numpy(), quantised), quantised))
        if tensor.ndim == 2
        else tensor
        for name, tensor in model.state_dict().items()
    }


def tokenizer_fields(writer: Any, *, pre: str | None = "gpt-2", **changed: Any) -> None:
    """A tokenizer of the vocabulary's size: an alphabet, four merges, a control token and one of a user's."""
    merges = ["h e", "l l", "he ll", "Ġ w"]
    tokens = [*ALPHABET[: SIZES["vocab_size"] - 6], *(merge.replace(" ", "") for merge in merges), "<|end|>", "<tool>"]
    types = [1] * (len(tokens) - 2) + [3, 4]
    said = {"tokens": tokens, "types": types, "merges": merges, "model": "gpt2", "eos": len(tokens) - 2, **changed}
    writer.add_tokenizer_model(said["model"])
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(said["tokens"])
    if said["types"] is not None:
        writer.add_token_types(said["types"])
    if said["merges"] is not None:
        writer.add_token_merges(said["merges"])
    writer.add_eos_token_id(said["eos"])


def raw(
    fields: bytes = b"",
    tensors: bytes = b"",
    *,
    counts: tuple[int, int] = (0, 0),
    magic: bytes = b"GGUF",
    version: int = 3,
) -> bytes:
    """The bytes of a header; `counts` says how many tensors and how many fields follow."""
    return magic + struct.pack("<IQQ", version, *counts) + fields + tensors


def text(value: str | bytes) -> bytes:
    """A string as the format writes it."""
    content = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(content)) + content


def field(name: str, kind: int, content: bytes) -> bytes:
    """A named value."""
    return text(name) + struct.pack("<I", kind) + content


def info(name: str, shape: tuple[int, ...], *, kind: int = 0, offset: int = 0) -> bytes:
    """The entry of a tensor; `shape` in the file's order, columns first."""
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def smollm2_file() -> Path:
    """The real model's file."""
    return package_file(*SMOLLM2)
