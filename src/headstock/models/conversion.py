"""Turns a `.bin` checkpoint, a pickle, into safetensors without running any code that the pickle asks for."""

import re
import shutil
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from headstock.errors import InvalidConfig, UnsupportedFeature
from headstock.models.weights import WEIGHTS_FILE, write_safetensors

__all__ = ["Conversion", "convert", "read_pickled"]

_PICKLED_FILE = "pytorch_model.bin"
_SUFFIXES = (".bin", ".pt", ".pth")


class Conversion(NamedTuple):
    """What `convert` wrote.

    Attributes:
        weights: the safetensors file.
        config: the copied `config.json`, None where the source has none beside it.
        tensors: how many tensors were written.
        shared: names left out because their numbers are another tensor's, each with that tensor's name.
    """

    weights: Path
    config: Path | None
    tensors: int
    shared: dict[str, str]


def convert(source: str | PathLike[str], folder: str | PathLike[str], *, force: bool = False) -> Conversion:
    """Write a checkpoint's tensors to `folder/model.safetensors` and its `config.json` beside them.

    Args:
        source: a `.bin`, `.pt` or `.pth` file of named tensors, or a folder that holds `pytorch_model.bin`.
        folder: made where absent; tensors that share their numbers are written once and noted in the file.
        force: overwrite files that are there already.

    Raises:
        InvalidConfig: the source is absent, truncated, no mapping of names to tensors, or a pickle that would run code;
            or a file is there already.
        UnsupportedFeature: the checkpoint is in several files.
    """
    pickled, target = _source_file(Path(source)), Path(folder)
    config = pickled.parent / "config.json"
    outputs = [target / WEIGHTS_FILE]
    if config.is_file() and config.resolve() != (target / "config.json").resolve():
        outputs.append(target / "config.json")
    taken = [str(file) for file in outputs if file.exists()]
    if taken and not force:
        raise InvalidConfig(
            f"the folder must not hold the files to write, got {', '.join(taken)}; --force (force=True) overwrites them"
        )
    tensors = read_pickled(pickled)
    target.mkdir(parents=True, exist_ok=True)
    shared = write_safetensors(tensors, target / WEIGHTS_FILE)
    if len(outputs) == 2:
        shutil.copyfile(config, target / "config.json")
    written = target / "config.json" if config.is_file() else None
    return Conversion(target / WEIGHTS_FILE, written, len(tensors) - len(shared), shared)


def _source_file(source: Path) -> Path:
    file = source / _PICKLED_FILE if source.is_dir() else source
    if (file.parent / f"{_PICKLED_FILE}.index.json").is_file() and not file.is_file():
        raise UnsupportedFeature(f"a checkpoint to convert must be one file, got several; join them first ({source})")
    if not file.is_file():
        raise InvalidConfig(f"the source must be a file or a folder that holds {_PICKLED_FILE}, got {source}")
    if file.suffix not in _SUFFIXES:
        raise InvalidConfig(f"the source must end in one of {', '.join(_SUFFIXES)}, got {source}")
    return file


def read_pickled(file: Path) -> dict[str, Tensor]:
    """The named tensors of a file that `torch.save` wrote, on the CPU; anything else in it is refused, never run.

    Raises:
        InvalidConfig: the file is truncated, is no such file, asks for code, or holds other things than named tensors.
    """
    try:
        loaded: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InvalidConfig(_unreadable(file, error)) from error
    if not isinstance(loaded, dict) or not loaded:
        got = "an empty dict" if loaded == {} else type(loaded).__name__
        raise InvalidConfig(f"a checkpoint must map names to tensors, got {got} ({file})")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.layout != torch.strided:
            what = f"a {value.layout} tensor" if isinstance(value, Tensor) else type(value).__name__
            raise InvalidConfig(f"a checkpoint must map names to dense tensors, got {name!r}: {what} ({file})")
    return dict(loaded)


def _unreadable(file: Path, error: Exception) -> str:
    code = re.search(r"GLOBAL ([\w.]+)", str(error))
    if code is not None:
        return (
            f"a checkpoint must hold tensors only, got one that asks for {code[1]}; nothing of it was run: "
            f"save the state dict alone ({file})"
        )
    first = str(error).partition("\n")[0] or type(error).__name__
    return f"a checkpoint must be a whole file that torch.save wrote, got one that does not read: {first} ({file})"
