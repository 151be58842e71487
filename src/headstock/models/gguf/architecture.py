"""What a GGUF file says about its model, as the configuration of a model here."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from headstock.errors import InvalidConfig, UnsupportedFeature
from headstock.models.gguf.fields import Fields
from headstock.models.gguf.file import GGUFFile
from headstock.models.gguf.scaling import rope_parameters

__all__ = ["ARCHITECTURES", "Architecture", "architecture_of", "configuration"]


@dataclass(frozen=True)
class Architecture:
    """How the files of one `general.architecture` are read.

    Attributes:
        name: in the file.
        model_type: in a configuration.
        interleaved: whether the rows of query and key projections are stored for interleaved rotation.
        query_key_norms: whether heads are normalised before the rotation.
        projection_bias: whether the projections of query, key and value always have a bias.
    """

    name: str
    model_type: str
    interleaved: bool = False
    query_key_norms: bool = False
    projection_bias: bool = False


ARCHITECTURES = {
    each.name: each
    for each in (
        Architecture("llama", "llama", interleaved=True),
        Architecture("qwen2", "qwen2", projection_bias=True),
        Architecture("qwen3", "qwen3", query_key_norms=True),
    )
}
_CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}


def architecture_of(file: GGUFFile) -> Architecture:
    """The architecture that the file names.

    Raises:
        InvalidConfig: it names none.
        UnsupportedFeature: there is no model for it here.
    """
    name = file.fields.get("general.architecture")
    if not isinstance(name, str):
        raise file.refusal(f"got general.architecture {name!r}, which names none")
    if name not in ARCHITECTURES:
        known = ", ".join(map(repr, ARCHITECTURES))
        raise UnsupportedFeature(f"a GGUF file's architecture must be one of {known}, got {name!r} ({file.path})")
    return ARCHITECTURES[name]


def configuration(file: GGUFFile, architecture: Architecture, rope_factors: Tensor | None = None) -> dict[str, Any]:
    """The content of a `config.json` for the file's model, under transformers' names.

    Raises:
        InvalidConfig: a field is missing or impossible.
        UnsupportedFeature: a field asks for something that is not computed here.
    """
    fields = Fields(file.fields, architecture.name)
    blocks = fields.size("block_count")
    present = len({name.split(".")[1] for name in file.tensors if name.startswith("blk.")})
    if blocks != present:
        raise fields.refusal("block_count", f"the number of the file's blocks, {present}", blocks)
    config = {**_sizes(fields, file), "num_hidden_layers": blocks}
    context, head_dim = config["max_position_embeddings"], config["head_dim"]
    config["rope_parameters"] = rope_parameters(fields, rope_factors, context=context, half=head_dim // 2)
    config.update(_kind(fields, architecture, file))
    _pass_over(fields)
    fields.refuse_others()
    return config


def _sizes(fields: Fields, file: GGUFFile) -> dict[str, Any]:
    hidden, heads = fields.size("embedding_length"), fields.size("attention.head_count")
    head_dim = fields.size("attention.key_length", hidden // heads or None)
    for name in ("attention.value_length", "rope.dimension_count"):
        if fields.size(name, head_dim) != head_dim:
            raise UnsupportedFeature(
                f"the GGUF field {name} must be the head's width {head_dim}, got {fields.get(name)}; "
                "other widths are not computed here"
            )
    embedding = file.tensors.get("token_embd.weight")
    rows = embedding.shape[0] if embedding is not None else 0
    vocabulary = fields.size("vocab_size", rows or None)
    if rows and vocabulary != rows:
        raise InvalidConfig(f"the GGUF file must have as many embeddings as tokens, got {rows} and {vocabulary}")
    return {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": fields.size("feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": fields.size("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": fields.size("context_length"),
        "rms_norm_eps": fields.number("attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": "output.weight" not in file.tensors,
    }


def _kind(fields: Fields, architecture: Architecture, file: GGUFFile) -> dict[str, Any]:
    """The model's type, and what only some types say."""
    window = fields.get("attention.sliding_window")
    if window and architecture.name != "llama":
        raise UnsupportedFeature(f"sliding windows must be absent in {architecture.name} files, got {window}")
    model_type = "mistral" if window else architecture.model_type
    found: dict[str, Any] = {"model_type": model_type, "architectures": [_CLASSES[model_type]]}
    if model_type == "mistral":
        found["sliding_window"] = fields.size("attention.sliding_window")
    if model_type in {"llama", "qwen3"}:
        found["attention_bias"] = "blk.0.attn_q.bias" in file.tensors
    if model_type == "llama":
        found["mlp_bias"] = "blk.0.ffn_gate.bias" in file.tensors
    return found


def _pass_over(fields: Fields) -> None:
    """Fields without effect at the values that mean nothing special.

    Raises:
        UnsupportedFeature: one has another value.
    """
    harmless = {"expert_count": 0, "expert_used_count": 0, "attention.causal": True, "tensor_data_layout": None}
    for name, value in harmless.items():
        found = fields.get(name)
        if found is not None and value is not None and found != value:
            raise UnsupportedFeature(f"the GGUF field {name} must be {value}, got {found!r}; it is not computed here")
