"""A GGUF file as a checkpoint: configuration, weights and tokenizer, all in memory."""

from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
from torch import Tensor

from headstock.errors import InvalidConfig, InvalidShape, UnsupportedFeature
from headstock.models.gguf.architecture import architecture_of, configuration
from headstock.models.gguf.file import GGUFFile, open_gguf
from headstock.models.gguf.numbers import numbers
from headstock.models.gguf.parts import Part, parts
from headstock.models.gguf.scaling import FACTORS
from headstock.models.gguf.tokenizer import read_tokenizer, special_ids
from headstock.rope.layouts import convert_projection

__all__ = ["GGUFCheckpoint", "read_gguf"]


@dataclass(frozen=True)
class GGUFCheckpoint:
    """What a GGUF file holds, in the form of a checkpoint's folder.

    Attributes:
        config: the content of its `config.json`.
        tensors: its weights by name.
        tokenizer: the content of its `tokenizer.json`, None where the file has no tokenizer.
        tokenizer_config: the content of its `tokenizer_config.json`.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    tokenizer: dict[str, Any] | None
    tokenizer_config: dict[str, Any]


def read_gguf(
    file: str | PathLike[str], *, dtype: torch.dtype = torch.float32, rotary_layout: str = "half_split"
) -> GGUFCheckpoint:
    """Read a GGUF file of the architectures `llama`, `qwen2` and `qwen3`, its weights decoded to floats.

    Args:
        file: a `.gguf` file.
        dtype: of the weights; they are decoded in float32 first.
        rotary_layout: `half_split` brings the rows of query and key projections into the order of this library and of
            transformers; `interleaved` leaves those of `llama` files as they are stored and says so in the config.

    Raises:
        InvalidConfig: the file is absent, truncated, corrupt, or its fields and tensors do not fit each other.
        InvalidShape: a tensor has another shape than the fields say.
        MissingDependency: the package `gguf` is not installed.
        UnsupportedFeature: the architecture, a field of it, the tokenizer or a way of storing numbers is not read here.
    """
    if rotary_layout not in {"half_split", "interleaved"}:
        raise InvalidConfig(f"rotary_layout must be 'half_split' or 'interleaved', got {rotary_layout!r}")
    opened = open_gguf(file)
    _check_whole(opened)
    architecture = architecture_of(opened)
    factors = numbers(opened, opened.tensors[FACTORS]) if FACTORS in opened.tensors else None
    config = configuration(opened, architecture, factors)
    tokenizer, tokenizer_config = read_tokenizer(opened)
    config |= special_ids(opened, config["vocab_size"])
    wanted = parts(config, architecture)
    _check(opened, wanted)
    permuted = architecture.interleaved and rotary_layout == "half_split"
    if architecture.interleaved and not permuted:
        config["rotary_layout"] = "interleaved"
    config["dtype"] = str(dtype).removeprefix("torch.")
    tensors = {each.name: _read(opened, each, config if permuted else None, dtype) for each in wanted}
    return GGUFCheckpoint(config, tensors, tokenizer, tokenizer_config)


def _check_whole(file: GGUFFile) -> None:
    parts_of_all = file.fields.get("split.count", 1)
    if parts_of_all not in {0, 1}:
        raise UnsupportedFeature(
            f"a GGUF file must hold a whole model, got one of {parts_of_all} parts; join them with llama-gguf-split "
            f"--merge ({file.path})"
        )


def _check(file: GGUFFile, wanted: list[Part]) -> None:
    """Names and shapes, before any number is decoded."""
    names = {each.stored for each in wanted}
    missing = sorted(names - file.tensors.keys())
    if missing:
        raise InvalidConfig(
            f"a GGUF file must hold all of its model's tensors, got none of {missing[:8]} ({file.path})"
        )
    unknown = sorted(file.tensors.keys() - names - {FACTORS})
    if unknown:
        raise UnsupportedFeature(
            f"a GGUF file must hold its model's tensors alone, got {unknown[:8]}; what they do is not computed here "
            f"({file.path})"
        )
    for each in wanted:
        if file.tensors[each.stored].shape != each.shape:
            got = list(file.tensors[each.stored].shape)
            raise InvalidShape(f"{each.stored} must have the shape {list(each.shape)}, got {got} ({file.path})")


def _read(file: GGUFFile, part: Part, permuted: dict[str, Any] | None, dtype: torch.dtype) -> Tensor:
    found = numbers(file, file.tensors[part.stored], dtype)
    if permuted is None or not part.name.endswith(("q_proj.weight", "k_proj.weight", "q_proj.bias", "k_proj.bias")):
        return found
    return convert_projection(found, head_dim=permuted["head_dim"], to="half_split")
