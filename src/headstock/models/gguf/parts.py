"""The tensors of a Llama-class model: their names here and in a GGUF file, and their shapes."""

from typing import Any, NamedTuple

from headstock.models.gguf.architecture import Architecture
from headstock.models.gguf.package import gguf_package

__all__ = ["Part", "parts"]


class Part(NamedTuple):
    """One tensor of a model.

    Attributes:
        name: in a `model.safetensors`.
        stored: in a GGUF file.
        shape: sizes that the configuration gives it.
    """

    name: str
    stored: str
    shape: tuple[int, ...]


def parts(config: dict[str, Any], architecture: Architecture) -> list[Part]:
    """Every tensor that a model of this configuration has."""
    gguf = gguf_package()
    number = next(each for each, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture.name)
    names = gguf.get_tensor_name_map(number, config["num_hidden_layers"])
    return [
        Part(name, names.get_name(name, try_suffixes=(".weight", ".bias")), shape)
        for name, shape in _shapes(config, architecture).items()
    ]


def _shapes(config: dict[str, Any], architecture: Architecture) -> dict[str, tuple[int, ...]]:
    vocabulary, hidden = config["vocab_size"], config["hidden_size"]
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for layer in range(config["num_hidden_layers"]):
        for name, shape in _layer(config, architecture).items():
            found[f"model.layers.{layer}.{name}"] = shape
    found["model.norm.weight"] = (hidden,)
    if not config["tie_word_embeddings"]:
        found["lm_head.weight"] = (vocabulary, hidden)
    return found


def _layer(config: dict[str, Any], architecture: Architecture) -> dict[str, tuple[int, ...]]:
    hidden, inner, head_dim = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    query, key = head_dim * config["num_attention_heads"], head_dim * config["num_key_value_heads"]
    bias = config.get("attention_bias", False)
    projections = {
        "self_attn.q_proj": (query, hidden, bias or architecture.projection_bias),
        "self_attn.k_proj": (key, hidden, bias or architecture.projection_bias),
        "self_attn.v_proj": (key, hidden, bias or architecture.projection_bias),
        "self_attn.o_proj": (hidden, query, bias),
        "mlp.gate_proj": (inner, hidden, config.get("mlp_bias", False)),
        "mlp.up_proj": (inner, hidden, config.get("mlp_bias", False)),
        "mlp.down_proj": (hidden, inner, config.get("mlp_bias", False)),
    }
    norms = {"input_layernorm": hidden, "post_attention_layernorm": hidden}
    if architecture.query_key_norms:
        norms |= {"self_attn.q_norm": head_dim, "self_attn.k_norm": head_dim}
    found: dict[str, tuple[int, ...]] = {f"{name}.weight": (size,) for name, size in norms.items()}
    for name, (rows, columns, with_bias) in projections.items():
        found[f"{name}.weight"] = (rows, columns)
        if with_bias:
            found[f"{name}.bias"] = (rows,)
    return found
