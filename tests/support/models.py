"""Small and real models, their transformers counterparts, and folders of checkpoints."""

import copy
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from headstock.cli.demo.weights import MICROFORMER, MINILM, package_folder
from headstock.models.bert import BertConfig, BertModel
from headstock.models.conversion import convert
from headstock.models.gpt2 import GPT2Config, GPT2LMHeadModel

M = TypeVar("M", bound=nn.Module)

BERT_FIELDS: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 20,
    "max_position_embeddings": 12,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.3,
}
GPT2_FIELDS: dict[str, Any] = {
    "vocab_size": 40,
    "n_positions": 12,
    "n_embd": 24,
    "n_layer": 3,
    "n_head": 4,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "initializer_range": 0.3,
}


def tiny_bert(*, pooler: bool = True, attention: str = "eager", **changed: Any) -> BertModel:
    """A BERT of three narrow layers with large random weights, in evaluation mode."""
    return BertModel(BertConfig(**{**BERT_FIELDS, **changed}), pooler=pooler, attention=attention).eval()


def tiny_gpt2(*, attention: str = "eager", **changed: Any) -> GPT2LMHeadModel:
    """A GPT-2 of three narrow layers with large random weights, in evaluation mode."""
    return GPT2LMHeadModel(GPT2Config(**{**GPT2_FIELDS, **changed}), attention=attention).eval()


def write_checkpoint(folder: Path, fields: dict[str, Any], tensors: dict[str, Tensor]) -> Path:
    """A folder with `config.json` and `model.safetensors`, as another program may have written it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(fields))
    save_file({name: tensor.detach().clone() for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


def ids(rows: int, tokens: int, vocabulary: int = 40) -> Tensor:
    """Random token ids."""
    return torch.randint(vocabulary, (rows, tokens))


def kept(padding: str, rows: int, tokens: int) -> Tensor | None:
    """1 for the tokens of rows of different lengths, padded on one side; None without padding."""
    if padding == "none":
        return None
    lengths = torch.linspace(tokens // 3, tokens, rows).long()[:, None]
    places = torch.arange(tokens)
    return (places < lengths if padding == "right" else places >= tokens - lengths).long()


def passing_values_on(
    module: object, query: Tensor, key: Tensor, value: Tensor, mask: object, **_: Any
) -> tuple[Tensor, None]:
    """An attention function unlike any other: each token gets its own value."""
    return value.transpose(1, 2).clone(), None


def minilm_folder() -> Path:
    """The real BERT's folder."""
    return package_folder(*MINILM)


def microformer_folder() -> Path:
    """The real GPT-2's folder, which holds a pickle."""
    return package_folder(*MICROFORMER)


@functools.cache
def converted_microformer(folder: Path) -> Path:
    """The real GPT-2's folder with safetensors, made once."""
    convert(microformer_folder(), folder)
    return folder


def rounding_limit(model: M, read: Callable[[M], Tensor], *, dtype: torch.dtype = torch.float32) -> float:
    """How far two results of a model in `dtype` may be apart when they differ in nothing but rounding.

    Eight times the distance of the model in `dtype` from itself in float64: each of the two is about that far from the
    exact result, which makes two; the largest of few elements may by luck have come out well, which makes the rest.
    """
    rounded, exact = read(copy.deepcopy(model).to(dtype)), read(copy.deepcopy(model).double())
    return 8 * (rounded.double() - exact).abs().max().item()


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """A copy of each parameter's gradient."""
    return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
