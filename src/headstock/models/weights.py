"""Weights in safetensors files: read and written whole, every unknown, missing or misfitting tensor refused by name."""

import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from headstock.errors import InvalidConfig, InvalidShape
from headstock.models.shards import INDEX_SUFFIX, read_shards

__all__ = ["WEIGHTS_FILE", "fill", "read_safetensors", "weights_file", "with_tied_head", "write_safetensors"]

WEIGHTS_FILE = "model.safetensors"
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def weights_file(folder: Path) -> Path:
    """The `model.safetensors` of a checkpoint's folder, or the index of one in several files.

    Raises:
        InvalidConfig: the folder holds neither.
    """
    for file in (folder / WEIGHTS_FILE, folder / f"{WEIGHTS_FILE}{INDEX_SUFFIX}"):
        if file.is_file():
            return file
    found = sorted(path.name for path in folder.glob("*.bin")) if folder.is_dir() else []
    advice = f"`headstock convert {folder} FOLDER` makes one of {found[0]}" if found else "is this the model's folder?"
    raise InvalidConfig(f"a model's folder must hold {WEIGHTS_FILE}, got {folder}; {advice}")


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file on the CPU; names that `write_safetensors` noted as shared are given again.

    Of an index, the tensors of all files that it names.

    Raises:
        InvalidConfig: a file is absent, truncated, or not in the format.
    """
    if file.name.endswith(INDEX_SUFFIX):
        return read_shards(file, read_safetensors)
    try:
        with safe_open(file, framework="pt", device="cpu") as opened:
            noted = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 -- no mapping
    except (SafetensorError, OSError) as error:
        raise InvalidConfig(
            f"{file.name} must be a whole safetensors file, got one that does not read: {error}; "
            f"it is truncated, corrupt or of another format: fetch or convert it again ({file})"
        ) from error
    shared = {name: tensors[kept] for name, kept in noted.items() if name not in tensors and kept in tensors}
    return {**tensors, **shared}


def write_safetensors(tensors: Mapping[str, Tensor], file: Path) -> dict[str, str]:
    """Write tensors, each storage once; returns the names left out, each with the name that was kept for it.

    The names left out stand in the file's metadata, where `read_safetensors` finds them. The file appears whole or not
    at all, and one that is being read stays as it was for its readers.
    """
    kept, shared = _once_each(tensors)
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        temporary.touch()
        usual = temporary.stat().st_mode  # save_file makes files that only their owner reads
        save_file(kept, temporary, metadata={"format": "pt", **shared})
        temporary.chmod(usual)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    return shared


def _once_each(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors that have numbers of their own, and the other names with the first name for the same numbers."""
    kept: dict[str, Tensor] = {}
    shared: dict[str, str] = {}
    first: dict[tuple[object, ...], str] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        same = first.setdefault(_identity(tensor, name), name)
        if same != name:
            shared[name] = same
            continue
        place = tensor.untyped_storage().data_ptr()
        # Views of one storage that are not the same numbers: the format wants each in a place of its own.
        kept[name] = tensor.detach().clone().contiguous() if place in storages else tensor.detach().contiguous()
        storages.add(place)
    return kept, shared


def _identity(tensor: Tensor, name: str) -> tuple[object, ...]:
    """Equal for tensors that are the same numbers at the same place; empty tensors have no place."""
    if tensor.numel() == 0:
        return (name,)
    return (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride(), tensor.device)


def fill(model: nn.Module, tensors: Mapping[str, Tensor], *, source: object, dtype: torch.dtype | None = None) -> None:
    """Put tensors into a model's parameters, which may be on the meta device; names and shapes must fit exactly.

    The parameters take the tensors' dtype, or `dtype`.

    Raises:
        InvalidConfig: a parameter has no tensor, a tensor has no parameter, or the tensors' dtypes differ or are no
            floating-point dtypes that the models compute in.
        InvalidShape: a tensor has another shape than its parameter.
    """
    wanted = model.state_dict(keep_vars=True)
    missing, unknown = sorted(wanted.keys() - tensors), sorted(tensors.keys() - wanted)
    if missing or unknown:
        raise InvalidConfig(_names_text(model, missing, unknown, source))
    for name, parameter in wanted.items():
        if tensors[name].shape != parameter.shape:
            raise InvalidShape(
                f"{name} must have the shape {list(parameter.shape)} that the configuration says, "
                f"got {list(tensors[name].shape)} ({source})"
            )
    _check_dtypes(tensors, dtype, source)
    model.load_state_dict({name: tensor.to(dtype or tensor.dtype) for name, tensor in tensors.items()}, assign=True)


def with_tied_head(tensors: dict[str, Tensor], embedding: str) -> dict[str, Tensor]:
    """The tensors with a language-model head that is the embedding of that name, as far as there is one.

    Raises:
        InvalidConfig: there is a head, and it is another one.
    """
    table, head = tensors.get(embedding), tensors.get("lm_head.weight")
    if table is None:
        return tensors
    if head is not None and head is not table and not torch.equal(head, table):
        raise InvalidConfig(
            f"lm_head.weight must equal {embedding} where tie_word_embeddings is true, got others; "
            "set it to false to keep both"
        )
    return {**tensors, "lm_head.weight": table}


def _names_text(model: nn.Module, missing: list[str], unknown: list[str], source: object) -> str:
    found = (("no tensor for", missing), ("the unknown", unknown))
    got = [f"{what} {_listed(names)}" for what, names in found if names]
    return f"the weights must be those of {type(model).__name__} exactly, got {' and '.join(got)} ({source})"


def _listed(names: list[str], most: int = 8) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + rest


def _check_dtypes(tensors: Mapping[str, Tensor], dtype: torch.dtype | None, source: object) -> None:
    found: dict[torch.dtype, str] = {}
    for name, tensor in tensors.items():
        found.setdefault(tensor.dtype, name)
    for other in found.keys() - set(_FLOATS):
        raise InvalidConfig(f"{found[other]} must be of a floating-point dtype, got {other} ({source})")
    if dtype is None and len(found) > 1:
        seen = " and ".join(f"{other} ({name})" for other, name in _by_name(found.items()))
        raise InvalidConfig(f"the weights must have one dtype, got {seen}; say which with dtype= ({source})")


def _by_name(found: Iterable[tuple[torch.dtype, str]]) -> list[tuple[torch.dtype, str]]:
    return sorted(found, key=lambda pair: pair[1])
