"""Turns a GGUF file into the folder of a checkpoint."""

import json
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from headstock.errors import InvalidConfig
from headstock.models.conversion import Conversion
from headstock.models.gguf.checkpoint import read_gguf
from headstock.models.weights import WEIGHTS_FILE, write_safetensors

__all__ = ["convert_gguf"]


def convert_gguf(
    source: str | PathLike[str],
    folder: str | PathLike[str],
    *,
    dtype: torch.dtype = torch.float32,
    rotary_layout: str = "half_split",
    force: bool = False,
) -> Conversion:
    """Write a GGUF file's model as `config.json`, `model.safetensors`, `tokenizer.json` and `tokenizer_config.json`.

    Args:
        source: a `.gguf` file.
        folder: made where absent; transformers reads it as well (but for `rotary_layout="interleaved"`).
        dtype: of the weights.
        rotary_layout: `interleaved` keeps the rows of query and key projections as the file has them.
        force: overwrite files that are there already.

    Raises:
        InvalidConfig: the file is absent, truncated or corrupt; or a file is there already.
        InvalidShape: a tensor has another shape than the file's fields say.
        MissingDependency: the package `gguf` is not installed.
        UnsupportedFeature: the file holds a model or a tokenizer that is not read here.
    """
    target = Path(folder)
    names = ("config.json", WEIGHTS_FILE, "tokenizer.json", "tokenizer_config.json")
    taken = [str(target / name) for name in names if (target / name).exists()]
    if taken and not force:
        raise InvalidConfig(
            f"the folder must not hold the files to write, got {', '.join(taken)}; --force (force=True) overwrites them"
        )
    read = read_gguf(source, dtype=dtype, rotary_layout=rotary_layout)
    target.mkdir(parents=True, exist_ok=True)
    shared = write_safetensors(read.tensors, target / WEIGHTS_FILE)
    _write(target / "config.json", read.config)
    if read.tokenizer is not None:
        _write(target / "tokenizer.json", read.tokenizer)
        _write(target / "tokenizer_config.json", read.tokenizer_config)
    return Conversion(target / WEIGHTS_FILE, target / "config.json", len(read.tensors), shared)


def _write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
