"""Config files of released checkpoints, as they are on disk, give the frequencies that transformers' models compute."""

import copy
import warnings
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, PreTrainedConfig

from headstock.errors import ConfigWarning
from headstock.rope import RopeParameters, rope_layer_types
from tests.support.transformers_rope import rotary_classes

DEEPSEEK_SCALING = {
    "beta_fast": 32,
    "beta_slow": 1,
    "factor": 40,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "original_max_position_embeddings": 4096,
    "type": "yarn",
}
# The fields that concern RoPE, in the layout of the files.
FILES: dict[str, dict[str, Any]] = {
    "Llama-2-7b": {
        "model_type": "llama",
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "max_position_embeddings": 4096,
        "rope_scaling": None,
    },
    "Llama-3.1-8B": {
        "model_type": "llama",
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "max_position_embeddings": 131072,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
    },
    "Qwen2.5-7B with the recipe for YaRN": {
        "model_type": "qwen2",
        "hidden_size": 3584,
        "num_attention_heads": 28,
        "max_position_embeddings": 131072,
        "rope_theta": 1000000.0,
        "rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"},
    },
    "Qwen2.5-VL-7B, its text": {
        "model_type": "qwen2_5_vl_text",
        "hidden_size": 3584,
        "num_attention_heads": 28,
        "max_position_embeddings": 128000,
        "rope_theta": 1000000.0,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    },
    "Qwen3-VL, its text": {
        "model_type": "qwen3_vl_text",
        "hidden_size": 2560,
        "num_attention_heads": 32,
        "head_dim": 128,
        "max_position_embeddings": 262144,
        "rope_theta": 5000000,
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"},
    },
    "DeepSeek-V3": {
        "model_type": "deepseek_v3",
        "hidden_size": 7168,
        "num_attention_heads": 128,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "max_position_embeddings": 163840,
        "rope_theta": 10000,
        "rope_scaling": DEEPSEEK_SCALING,
    },
    "Phi-3.5-mini": {
        "model_type": "phi3",
        "hidden_size": 3072,
        "num_attention_heads": 32,
        "max_position_embeddings": 131072,
        "original_max_position_embeddings": 4096,
        "rope_theta": 10000.0,
        "rope_scaling": {
            "type": "longrope",
            "short_factor": [1.0 + 0.02 * i for i in range(48)],
            "long_factor": [1.0 + 1.3 * i for i in range(48)],
        },
    },
    "gpt-oss-20b": {
        "model_type": "gpt_oss",
        "hidden_size": 2880,
        "num_attention_heads": 64,
        "head_dim": 64,
        "layer_types": ["sliding_attention", "full_attention"] * 12,
        "num_hidden_layers": 24,
        "max_position_embeddings": 131072,
        "rope_theta": 150000,
        "rope_scaling": {
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "factor": 32.0,
            "original_max_position_embeddings": 4096,
            "rope_type": "yarn",
            "truncate": False,
        },
    },
    "gemma-3-4b, its text": {
        "model_type": "gemma3_text",
        "hidden_size": 2560,
        "num_attention_heads": 8,
        "head_dim": 256,
        "max_position_embeddings": 131072,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    },
    "ModernBERT-base": {
        "model_type": "modernbert",
        "hidden_size": 768,
        "num_attention_heads": 12,
        "max_position_embeddings": 8192,
        "global_rope_theta": 160000.0,
        "local_rope_theta": 10000.0,
    },
    "pythia-1b": {
        "model_type": "gpt_neox",
        "hidden_size": 2048,
        "num_attention_heads": 8,
        "max_position_embeddings": 2048,
        "rotary_emb_base": 10000,
        "rotary_pct": 0.25,
    },
    "phi-2": {
        "model_type": "phi",
        "hidden_size": 2560,
        "num_attention_heads": 32,
        "max_position_embeddings": 2048,
        "partial_rotary_factor": 0.4,
        "rope_scaling": None,
        "rope_theta": 10000.0,
    },
    "internlm3-8b": {
        "model_type": "llama",
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "head_dim": 128,
        "max_position_embeddings": 32768,
        "rope_scaling": {"factor": 6.0, "rope_type": "dynamic"},
        "rope_theta": 50000000,
    },
    "MiniMax-M2": {
        "model_type": "minimax_m2",
        "hidden_size": 3072,
        "num_attention_heads": 48,
        "head_dim": 128,
        "rotary_dim": 64,
        "max_position_embeddings": 196608,
        "rope_theta": 5000000,
    },
}


@pytest.mark.parametrize("file", FILES)
def test_a_config_file_gives_the_frequencies_of_the_model(file: str) -> None:
    raw = FILES[file]
    converted: Any = CONFIG_MAPPING[raw["model_type"]].from_dict(copy.deepcopy(raw))
    assert isinstance(converted, PreTrainedConfig)
    (rotary,) = rotary_classes(converted)
    module: Any = rotary(converted)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConfigWarning)
        for layer_type in rope_layer_types(raw) or (None,):
            parameters = RopeParameters.from_config(raw, layer_type)
            inv_freq, factor = parameters.frequencies()
            prefix = "" if layer_type is None else f"{layer_type}_"
            # The same operations in float32: two roundings of 6e-8.
            torch.testing.assert_close(inv_freq, getattr(module, f"{prefix}inv_freq"), rtol=1e-6, atol=0)
            assert factor == pytest.approx(getattr(module, f"{prefix}attention_scaling"), rel=1e-6)
    assert set(rope_layer_types(raw)) == set(rope_layer_types(converted))
