"""The configuration of Llama and its relatives: published files are read, every model type by its own conventions."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest

from headstock.errors import InvalidConfig
from headstock.models.llama import LlamaConfig
from tests.support.llama import FIELDS, KINDS, THEIRS

# What stands in the `config.json` of published models.
COMMON: dict[str, Any] = {
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "torch_dtype": "bfloat16",
    "use_cache": True,
}
LLAMA_3_8B = COMMON | {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 8192,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "transformers_version": "4.40.0.dev0",
    "vocab_size": 128256,
}
LLAMA_3_1_8B = LLAMA_3_8B | {
    "eos_token_id": [128001, 128008, 128009],
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "rope_scaling": {
        "factor": 8.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "transformers_version": "4.43.0.dev0",
}
LLAMA_3_2_1B = LLAMA_3_1_8B | {
    "head_dim": 64,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "rope_scaling": LLAMA_3_1_8B["rope_scaling"] | {"factor": 32.0},
    "tie_word_embeddings": True,
}
MISTRAL_7B_V01 = {
    "architectures": ["MistralForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "model_type": "mistral",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.34.0.dev0",
    "use_cache": True,
    "vocab_size": 32000,
}
MISTRAL_7B_V03 = MISTRAL_7B_V01 | {
    "attention_dropout": 0.0,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "transformers_version": "4.42.0.dev0",
    "vocab_size": 32768,
}
QWEN2_7B = COMMON | {
    "architectures": ["Qwen2ForCausalLM"],
    "bos_token_id": 151643,
    "eos_token_id": 151643,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "max_position_embeddings": 131072,
    "max_window_layers": 28,
    "model_type": "qwen2",
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 131072,
    "tie_word_embeddings": False,
    "transformers_version": "4.37.2",
    "use_sliding_window": False,
    "vocab_size": 152064,
}
QWEN25_05B = QWEN2_7B | {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "max_position_embeddings": 32768,
    "max_window_layers": 24,
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "transformers_version": "4.40.1",
    "use_mrope": False,
    "vocab_size": 151936,
}
QWEN3_8B = COMMON | {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "max_position_embeddings": 40960,
    "max_window_layers": 36,
    "model_type": "qwen3",
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "transformers_version": "4.51.0",
    "use_sliding_window": False,
    "vocab_size": 151936,
}
SMOLLM2_135M = COMMON | {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_size": 576,
    "initializer_range": 0.041666666666666664,
    "intermediate_size": 1536,
    "is_llama_config": True,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "pad_token_id": 2,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_interleaved": False,
    "rope_scaling": None,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
    "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16", "fp16": "float16"}},
    "transformers_version": "4.42.3",
    "vocab_size": 49152,
}
SMOLLM3_3B = COMMON | {
    "architectures": ["SmolLM3ForCausalLM"],
    "attention_bias": False,
    "bos_token_id": 128000,
    "eos_token_id": 128012,
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "layer_types": ["full_attention"] * 36,
    "max_position_embeddings": 65536,
    "max_window_layers": 28,
    "mlp_bias": False,
    "model_type": "smollm3",
    "no_rope_layer_interval": 4,
    "no_rope_layers": [1, 1, 1, 0] * 9,
    "num_attention_heads": 16,
    "num_hidden_layers": 36,
    "num_key_value_heads": 4,
    "pad_token_id": 128004,
    "pretraining_tp": 2,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 5000000.0,
    "sliding_window": None,
    "transformers_version": "4.54.0.dev0",
    "use_sliding_window": False,
    "vocab_size": 128256,
}
PUBLISHED = {
    "Llama 3 8B": LLAMA_3_8B,
    "Llama 3.1 8B": LLAMA_3_1_8B,
    "Llama 3.2 1B": LLAMA_3_2_1B,
    "Mistral 7B v0.1": MISTRAL_7B_V01,
    "Mistral 7B v0.3": MISTRAL_7B_V03,
    "Qwen2 7B": QWEN2_7B,
    "Qwen2.5 0.5B": QWEN25_05B,
    "Qwen3 8B": QWEN3_8B,
    "SmolLM2 135M": SMOLLM2_135M,
    "SmolLM3 3B": SMOLLM3_3B,
}


def llama(**changed: Any) -> LlamaConfig:
    return LlamaConfig(**{**FIELDS, **changed})


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files_are_read(name: str, tmp_path: Path) -> None:
    fields = PUBLISHED[name]
    config = LlamaConfig(**copy.deepcopy(fields))
    theirs = THEIRS[fields["model_type"]][0](**copy.deepcopy(fields))
    assert config.head_size == getattr(theirs, "head_dim", None) or theirs.hidden_size // theirs.num_attention_heads
    assert (config.key_value_heads, config.tie_word_embeddings) == (
        theirs.num_key_value_heads,
        theirs.tie_word_embeddings,
    )
    assert config.rope.rope_theta == theirs.rope_parameters["rope_theta"]
    assert config.rope.rope_type == theirs.rope_parameters["rope_type"]
    config.write(tmp_path / "config.json")
    assert LlamaConfig.read(tmp_path / "config.json") == config


@pytest.mark.parametrize(
    ("name", "windows", "rotated"),
    [
        ("Mistral 7B v0.1", {4096}, {True}),
        ("Mistral 7B v0.3", {None}, {True}),
        ("Qwen2 7B", {None}, {True}),
        ("SmolLM3 3B", {None}, {True, False}),
    ],
)
def test_published_windows_and_rotations(name: str, windows: set[int | None], rotated: set[bool]) -> None:
    config = LlamaConfig(**PUBLISHED[name])
    assert (set(config.windows), set(config.rotates)) == (windows, rotated)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_transformers_writes_is_read(kind: str) -> None:
    fields = {**FIELDS, **KINDS[kind]}
    written = THEIRS[fields["model_type"]][0](**{"pad_token_id": None, **fields}).to_dict()
    config = LlamaConfig(**written)
    assert (config.windows, config.rotates) == (LlamaConfig(**fields).windows, LlamaConfig(**fields).rotates)
    assert config.rope == LlamaConfig(**fields).rope


def test_no_more_is_written_than_others_know() -> None:
    written = set(llama().model_dump())
    assert written < {*FIELDS, *THEIRS["llama"][0]().to_dict(), "add_cross_attention", "rope_theta"}
    assert "rotary_layout" in llama(rotary_layout="interleaved").model_dump()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_configuration_is_written_and_copied_whole(kind: str, tmp_path: Path) -> None:
    config = llama(**KINDS[kind])
    config.write(tmp_path / "config.json")
    copies = [
        LlamaConfig.read(tmp_path / "config.json"),
        copy.deepcopy(config),
        pickle.loads(pickle.dumps(config)),
        config.with_fields(vocab_size=41).with_fields(vocab_size=40),
    ]
    for each in copies:
        assert each == config
        assert (each.windows, each.rotates, each.rope) == (config.windows, config.rotates, config.rope)


def test_what_a_file_leaves_out_is_what_its_type_takes_it_to_be() -> None:
    assert llama(model_type="mistral").windows == (4096,) * 4
    assert llama(model_type="qwen2").windows == (None,) * 4
    assert llama(model_type="qwen3").head_size == 128
    assert llama(model_type="smollm3").tie_word_embeddings
    assert llama(model_type="smollm3").rotates == (True, True, True, False)
    assert llama(model_type="smollm3").rope.rope_theta == 2e6
    assert llama().rope.rope_theta == 1e4
    assert not llama().tie_word_embeddings
    assert llama(num_key_value_heads=None).key_value_heads == 6
    assert llama(head_dim=None).head_size == 4


def test_windows_follow_the_conventions_of_the_type() -> None:
    on = {"use_sliding_window": True, "sliding_window": 3}
    assert llama(model_type="qwen2", **on, max_window_layers=3).windows == (None, None, None, 3)
    assert llama(model_type="qwen2", sliding_window=3, max_window_layers=0).windows == (None,) * 4
    assert llama(model_type="smollm3", **on, no_rope_layers=[1, 0, 1, 1, 1]).windows == (None, 3, None, None)
    types = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]
    assert llama(model_type="qwen3", **on, layer_types=types).windows == (3, None, None, 3)


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"model_type": "gemma"}, r"model_type must be 'llama', 'mistral', 'qwen2', 'qwen3' or 'smollm3'.*got 'gemma'"),
        ({"hiden_size": 24}, "got 'hiden_size': 24; did you mean 'hidden_size'"),
        ({"sliding_window": 4}, "sliding_window must be left out for model_type 'llama', got 4"),
        ({"model_type": "mistral", "attention_bias": True}, "attention_bias must be left out for model_type 'mistral'"),
        ({"model_type": "mistral", "layer_types": ["full_attention"] * 4}, "layer_types must be left out for model_ty"),
        ({"model_type": "qwen2", "mlp_bias": True}, "mlp_bias must be left out for model_type 'qwen2', got True"),
        ({"model_type": "qwen3", "no_rope_layers": [1, 0, 1, 0]}, "no_rope_layers must be left out for model_type 'q"),
        ({"num_attention_heads": 5}, "hidden_size must be a multiple of num_attention_heads where head_dim .*24 and 5"),
        ({"num_key_value_heads": 4}, "num_attention_heads must be a multiple of num_key_value_heads, got 6 and 4"),
        ({"head_dim": 5}, "head_dim .*even"),
        ({"pad_token_id": 40}, "pad_token_id must be a token of 40, got 40"),
        (
            {"model_type": "qwen2", "layer_types": ["full_attention"] * 3},
            "layer_types must have one entry for each",
        ),
        (
            {"model_type": "qwen2", "layer_types": ["chunked_attention"] * 4},
            r"layer_types\.0 must be 'full_attention'",
        ),
        ({"model_type": "smollm3", "no_rope_layers": [1, 0]}, "no_rope_layers must have an entry for each of 4 layers"),
        (
            {"model_type": "qwen2", "layer_types": ["sliding_attention"] * 4},
            "sliding_window must be given and use_sliding_window true where layer_types .*, got 4096 and False",
        ),
        ({"use_mrope": True}, "use_mrope must be False, the only value that is computed here"),
        ({"rope_interleaved": True}, "rope_interleaved must be False, the only value that is computed here"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder must be False, the only value"),
        ({"add_cross_attention": True}, "add_cross_attention must be False, the only value"),
        ({"rotary_layout": "neox"}, "rotary_layout must be 'half_split' or 'interleaved'"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0.5}}, "factor"),
        ({"rope_theta": -1.0}, "rope_theta must be greater than 0"),
        ({"hidden_act": "gelu_old"}, "hidden_act must be one of 'gelu'"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(changed: dict[str, Any], rule: str) -> None:
    with pytest.raises(InvalidConfig, match=rule):
        llama(**changed)


def test_an_unknown_rope_type_is_refused_by_name() -> None:
    with pytest.raises(InvalidConfig, match=r"rope_type must be one of .*, got 'yarm'; did you mean 'yarn'"):
        llama(rope_scaling={"rope_type": "yarm", "factor": 2.0})
