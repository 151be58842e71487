"""Tiny configurations of any architecture: fields by their names, made small; and what single ones need beside."""

import dataclasses
from collections.abc import Mapping
from typing import Any

__all__ = ["WINDOW", "tiny_config"]

WINDOW = 4

_HIDDEN, _HEADS, _KV_HEADS, _HEAD, _LAYERS, _WIDE = 32, 4, 2, 8, 2, 48

_BY_VALUE: list[tuple[Any, str]] = [
    (
        _HIDDEN,
        "hidden_size d_model n_embd embedding_size dim_model input_embedding_size emb_dim output_embedding_size "
        "word_embed_proj_dim vocab_dim dim embedding_dim backbone_hidden_size lru_width pronunciation_embed_dim "
        "shape_embed_dim hidden_size_per_layer_input dim_model_base o_lora_rank q_lora_rank d_latent n_embed "
        "ple_embed_dim",
    ),
    (
        _LAYERS,
        "num_hidden_layers n_layer num_layers n_layers encoder_layers decoder_layers max_window_layers "
        "num_encoder_layers num_decoder_layers t2u_encoder_layers t2u_decoder_layers speech_encoder_layers depth",
    ),
    (
        _HEADS,
        "num_attention_heads n_head num_heads n_heads encoder_attention_heads decoder_attention_heads "
        "num_encoder_attention_heads num_decoder_attention_heads attention_heads index_n_heads "
        "swa_num_attention_heads t2u_encoder_attention_heads t2u_decoder_attention_heads "
        "speech_encoder_attention_heads mamba_n_heads linear_num_value_heads linear_num_heads num_experts "
        "n_routed_experts num_local_experts moe_num_experts mamba_num_heads n_mamba_heads",
    ),
    (
        _KV_HEADS,
        "num_key_value_heads num_kv_heads swa_num_key_value_heads linear_num_key_heads num_experts_per_tok "
        "moe_topk moe_k top_k_experts num_experts_per_token",
    ),
    (1, "n_group topk_group first_k_dense_replace n_shared_experts mamba_n_groups n_groups"),
    (
        _HEAD,
        "head_dim d_kv v_head_dim qk_nope_head_dim qk_rope_head_dim swa_head_dim kv_channels index_head_dim "
        "dim_head global_head_dim linear_key_head_dim swa_v_head_dim linear_value_head_dim linear_head_dim "
        "attention_head_size d_head d_rel mamba_d_state mamba_chunk_size chunk_size query_pre_attn_scalar "
        "state_size ssm_state_size laurel_rank",
    ),
    (16, "kv_lora_rank mamba_d_head mamba_head_dim router_hidden_size hc_lowrank gated_norm_rank"),
    (
        _WIDE,
        "intermediate_size ffn_dim n_inner d_ff encoder_ffn_dim decoder_ffn_dim dff dim_ff moe_intermediate_size "
        "shared_expert_intermediate_size shared_intermediate_size d_inner ffn_hidden_size expert_ffn_hidden_size "
        "intermediate_size_mlp dense_intermediate_size feed_forward_size t2u_encoder_ffn_dim t2u_decoder_ffn_dim "
        "speech_encoder_intermediate_size shared_experts_intermediate_size moe_shared_expert_intermediate_size "
        "prefix_dense_intermediate_size",
    ),
    (
        96,
        "vocab_size vocab_size_per_layer_input audio_vocab_size pronunciation_vocab_size shape_vocab_size "
        "src_vocab_size tgt_vocab_size t2u_vocab_size unpadded_vocab_size",
    ),
    (128, "max_position_embeddings n_positions n_ctx max_seq_len max_target_positions context_length"),
    (
        WINDOW,
        "sliding_window attention_chunk_size local_attention window_size attention_window_size "
        "sliding_window_size index_topk local_attention_window_len attention_window",
    ),
    (0, "pad_token_id"),
    (2, "eos_token_id decoder_start_token_id cls_token_id sep_token_id mask_token_id"),
    (3, "bos_token_id"),
]
_SMALL: Mapping[str, Any] = {name: value for value, names in _BY_VALUE for name in names.split()}

#: What single architectures need to be built of these sizes, and to use a window where they can.
_OWN: Mapping[str, Mapping[str, Any]] = {
    "bamba": {"attn_layer_indices": [1], "mamba_n_heads": 4},
    "codegen": {"rotary_dim": 4, "n_ctx": 128},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gpt_bigcode": {"multi_query": True},
    "gptj": {"rotary_dim": 4},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "musicgen_melody_decoder": {"num_codebooks": 1},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "whisper": {"max_source_positions": 16},
    "xmod": {"default_language": "en_XX"},
    "gemma4_text": {"hidden_size_per_layer_input": 0},
    "neomme": {"head_dim": 16},
    "esmc": {"num_key_value_heads": 4},
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "musicgen_decoder": {"num_codebooks": 1},
    "zamba": {"layers_block_type": ["mamba", "hybrid"], "num_hidden_layers": 2},
    "zaya": {"num_experts_per_tok": 1},
}


def tiny_config(kind: str, task: str, model_class: Any) -> Any:
    """The configuration of an architecture, by its `model_type`, with the sizes of this file.

    Where the model class takes a part of the architecture's configuration, that part.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    whole = CONFIG_MAPPING[kind]
    wanted = model_class.config_class
    config_class: Any = wanted if wanted is not None and not issubclass(whole, wanted) else whole
    said = _small(config_class)
    return config_class(**said, **({"is_decoder": True} if task == "causal" else {}))


def _small(config_class: Any) -> dict[str, Any]:
    """Keywords for a configuration class: the small sizes of the fields that it has."""
    is_data = dataclasses.is_dataclass(config_class)
    names = {field.name for field in dataclasses.fields(config_class)} if is_data else set()
    said: dict[str, Any] = {name: value for name, value in _SMALL.items() if name in names}
    for name, sub in (getattr(config_class, "sub_configs", None) or {}).items():
        if sub.__name__ == "AutoConfig":
            raise ValueError(
                f"{name} of {config_class.__name__} is any architecture: no language architecture by itself"
            )
        if dataclasses.is_dataclass(sub) and name in names:
            said[name] = _small(sub)
    if "kv_lora_rank" in names and "num_key_value_heads" in names:
        said["num_key_value_heads"] = _HEADS  # latent attention has no groups
    return said | _layers(config_class, names) | dict(_OWN.get(config_class.model_type, {}))


def _layers(config_class: Any, names: set[str]) -> dict[str, Any]:
    """One layer of each kind that the architecture has, two at least."""
    if "layer_types" not in names or "num_hidden_layers" not in names:
        return {}
    kinds = list(dict.fromkeys(config_class().layer_types or []))
    if not kinds:
        return {}
    kinds = kinds if len(kinds) > 1 else kinds * _LAYERS
    said: dict[str, Any] = {"layer_types": kinds, "num_hidden_layers": len(kinds)}
    if "mlp_layer_types" in names:
        mlp = list(dict.fromkeys(config_class().mlp_layer_types or []))
        said["mlp_layer_types"] = [mlp[min(i, len(mlp) - 1)] for i in range(len(kinds))] if mlp else None
    return said
