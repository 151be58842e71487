"""What the models share: a table of attention functions each, weights from a folder and back."""

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from headstock.attention import AUTO, AttentionInterface
from headstock.errors import InvalidConfig, InvalidShape
from headstock.masks import Mask, padding
from headstock.models.attending import SelfAttention
from headstock.models.config import ModelConfig
from headstock.models.unfilled import unfilled
from headstock.models.weights import WEIGHTS_FILE, fill, read_safetensors, weights_file, write_safetensors

__all__ = ["Model", "check_ids", "keys_kept"]

CONFIG_FILE = "config.json"


class Model(nn.Module):
    """Base of the models: `attention` is the instance's overlay over the table of its file.

    Attributes:
        attention: entries put here, or opened as a scope here, hold for this model alone.
        config: the configuration, changed by what changes the model (pruning).
    """

    config_class: ClassVar[type[ModelConfig]]
    file_attention: ClassVar[AttentionInterface]
    config: ModelConfig

    def __init__(self) -> None:
        super().__init__()
        self.attention = AttentionInterface(parent=self.file_attention)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | PathLike[str],
        attention: str = "auto",
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
    ) -> Self:
        """The model in a folder's `config.json` and `model.safetensors`, in evaluation mode; nothing else is read.

        Args:
            folder: what `save_pretrained`, `headstock convert` or transformers wrote.
            attention: name of the attention function of all layers.
            dtype: of the parameters; None keeps the file's.
            device: of the parameters.

        Raises:
            InvalidConfig: a file is absent or corrupt, a field unknown or wrong, a tensor missing or unknown.
            InvalidShape: a tensor has another shape than the configuration says.
            UnknownName: there is no attention function of that name.
        """
        source = Path(folder)
        config = cls.config_class.read(source / CONFIG_FILE)
        file = weights_file(source)
        return cls.from_tensors(config, read_safetensors(file), attention, dtype=dtype, device=device, source=file)

    @classmethod
    def from_tensors(
        cls,
        config: Any,
        tensors: Mapping[str, Tensor],
        attention: str = "auto",
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
        source: object = "tensors in memory",
    ) -> Self:
        """The model of a configuration with these tensors, in evaluation mode; they are used, not copied.

        Args:
            config: of the class's own kind.
            tensors: by the names of a `model.safetensors`.
            attention: name of the attention function of all layers.
            dtype: of the parameters; None keeps the tensors'.
            device: of the parameters.
            source: where they come from, for what an error says.

        Raises:
            InvalidConfig: a tensor is missing or unknown.
            InvalidShape: a tensor has another shape than the configuration says.
            UnknownName: there is no attention function of that name.
        """
        named = cls._own_names(dict(tensors))
        with unfilled():
            model = cls._for(config, named)
        model.set_attention(attention)
        fill(model, model._tied(named), source=source, dtype=dtype)
        model._tie()
        return model.to(device).eval()

    @classmethod
    def _own_names(cls, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a file under the names of this class, without those that are known to hold no weights."""
        return tensors

    @classmethod
    def _for(cls, config: Any, tensors: Mapping[str, Tensor]) -> Self:
        """An instance with a place for each of the tensors."""
        raise NotImplementedError

    def _tied(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors with those that the file leaves out because they are another one's."""
        return tensors

    def _tie(self) -> None:
        """Make parameters that are one again one, after they were filled."""

    def save_pretrained(self, folder: str | PathLike[str]) -> None:
        """Write `config.json` and `model.safetensors` into a folder, made where absent, for `from_pretrained`."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        write_safetensors(self.state_dict(), target / WEIGHTS_FILE)
        self.config.write(target / CONFIG_FILE)

    def set_attention(self, name: str, *, layers: Iterable[int] | None = None) -> None:
        """Look attention up by another name, in all layers or in those counted from 0.

        Raises:
            UnknownName: no table on the way from the layer to the shared one holds the name.
            InvalidConfig: there is no such layer.
        """
        every = self._attention_modules()
        chosen = every if layers is None else [self._attention_module(index) for index in layers]
        if name != AUTO:
            for module in chosen:
                module.interface[name]  # an unknown name raises here, not in the first forward
        for module in chosen:
            module.implementation = name

    def layer_attention(self, index: int) -> AttentionInterface:
        """The overlay of one layer over the model's, layers counted from 0.

        Raises:
            InvalidConfig: there is no such layer.
        """
        return self._attention_module(index).interface

    def _attention_modules(self) -> list[SelfAttention]:
        return [module for module in self.modules() if isinstance(module, SelfAttention)]

    def _attention_module(self, index: int) -> SelfAttention:
        modules = self._attention_modules()
        if not 0 <= index < len(modules):
            raise InvalidConfig(f"a layer's index must lie in 0..{len(modules) - 1}, got {index}")
        return modules[index]


def check_ids(input_ids: Int[Tensor, "batch tokens"], most: int, **like: Tensor | None) -> None:
    """Refuse token ids of a wrong shape or dtype, more of them than positions, and companions of another shape.

    Raises:
        InvalidShape: one of these.
    """
    if input_ids.ndim != 2 or not _is_integer(input_ids):
        raise InvalidShape(f"input_ids must be integers [batch, tokens], got {_shown(input_ids)}")
    if input_ids.shape[1] > most:
        raise InvalidShape(
            f"input_ids must hold at most {most} tokens a row, got {input_ids.shape[1]}; shorten the text"
        )
    batch, tokens = input_ids.shape
    for name, tensor in like.items():
        if tensor is not None and (tensor.shape not in {(batch, tokens), (1, tokens)} or not _is_integer(tensor)):
            raise InvalidShape(f"{name} must be integers [{batch} or 1, {tokens}] like input_ids, got {_shown(tensor)}")


def keys_kept(
    attention_mask: Bool[Tensor, "batch tokens"] | Int[Tensor, "batch tokens"] | Mask | None, input_ids: Tensor
) -> Mask | None:
    """The mask that a model's `attention_mask` means: a `Mask` itself, or the tokens to keep (True or not 0).

    Raises:
        InvalidShape: a tensor of another shape than the tokens, or a floating-point one, where 0 could mean either.
    """
    if attention_mask is None or isinstance(attention_mask, Mask):
        return attention_mask
    if attention_mask.shape != input_ids.shape or attention_mask.is_floating_point():
        raise InvalidShape(
            f"attention_mask must be booleans or integers {list(input_ids.shape)} like input_ids, True or 1 for a "
            f"token to keep, got {_shown(attention_mask)}; other masks are given as a headstock.masks.Mask"
        )
    return padding(attention_mask != 0)


def _is_integer(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


def _shown(tensor: Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"
