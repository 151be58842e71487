"""A model with its tokenizer, from a folder or a GGUF file: text in, text out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from headstock.errors import InvalidConfig, MissingDependency, UnsupportedFeature
from headstock.models.generation.streaming import TextStream
from headstock.models.gguf import read_gguf
from headstock.models.llama import LlamaForCausalLM

__all__ = ["MODELS", "TextModel"]

# The class for each `model_type` of a config.json; GPT-2 is not among them, since it has no cache here.
MODELS: Mapping[str, type[LlamaForCausalLM]] = {
    "llama": LlamaForCausalLM,
    "mistral": LlamaForCausalLM,
    "qwen2": LlamaForCausalLM,
    "qwen3": LlamaForCausalLM,
    "smollm3": LlamaForCausalLM,
}
_TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True)
class TextModel:
    """A model and the tokenizer that it was trained with.

    Attributes:
        model: in evaluation mode.
        tokenizer: one of the package `tokenizers`.
        stop_ids: the tokens that end a text.
    """

    model: LlamaForCausalLM
    tokenizer: Any
    stop_ids: tuple[int, ...]

    @classmethod
    def read(
        cls, source: str | PathLike[str], attention: str = "auto", *, dtype: torch.dtype | None = None
    ) -> "TextModel":
        """The model in a folder with `config.json`, `model.safetensors` and `tokenizer.json`, or in a `.gguf` file.

        Args:
            source: the folder or the file.
            attention: name of the attention function of all layers.
            dtype: of the parameters; None keeps a folder's, and decodes a GGUF file to float32.

        Raises:
            InvalidConfig: a file is absent or corrupt, or does not fit the others.
            InvalidShape: a tensor has another shape than the configuration says.
            MissingDependency: the package `tokenizers` is not installed, or `gguf` for a GGUF file.
            UnknownName: there is no attention function of that name.
            UnsupportedFeature: there is no model of this type here.
        """
        path = Path(source)
        if path.is_dir():
            return cls._of_folder(path, attention, dtype)
        return cls._of_gguf(path, attention, dtype)

    @classmethod
    def _of_folder(cls, folder: Path, attention: str, dtype: torch.dtype | None) -> "TextModel":
        fields = _json(folder / "config.json")
        generation = folder / "generation_config.json"
        said = [fields, _json(generation)] if generation.is_file() else [fields]
        chosen = _model_class(fields, folder)
        tokenizer = _tokenizer(_text(folder / _TOKENIZER_FILE), folder / _TOKENIZER_FILE)
        model = chosen.from_pretrained(folder, attention, dtype=dtype)
        return cls(model, tokenizer, _ends([each.get("eos_token_id") for each in said], model, tokenizer, folder))

    @classmethod
    def _of_gguf(cls, file: Path, attention: str, dtype: torch.dtype | None) -> "TextModel":
        read = read_gguf(file, dtype=torch.float32 if dtype is None else dtype)
        if read.tokenizer is None:
            raise InvalidConfig(f"a GGUF file must hold a tokenizer to read a text, got none ({file})")
        chosen = _model_class(read.config, file)
        tokenizer = _tokenizer(json.dumps(read.tokenizer), file)
        config = chosen.config_class(**read.config)
        model = chosen.from_tensors(config, read.tensors, attention, source=file)
        return cls(model, tokenizer, _ends([read.config.get("eos_token_id")], model, tokenizer, file))

    def tokens(self, text: str) -> Int[Tensor, "1 tokens"]:
        """The ids of a text, with those that the tokenizer puts before and behind it.

        Raises:
            InvalidConfig: the text is empty, or no Unicode.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidConfig(f"the prompt must be Unicode text, got {error.reason} at {error.start}") from None
        ids = self.tokenizer.encode(text).ids if text else []
        if not ids:
            raise InvalidConfig(f"the prompt must hold text, got {text!r}")
        return torch.tensor([ids], device=self.model.lm_head.weight.device)

    def stream(self, prompt: Int[Tensor, "1 tokens"]) -> TextStream:
        """Turns the tokens that follow a prompt into text."""
        return TextStream(self.tokenizer, after=prompt[0, -8:].tolist())


def _model_class(fields: dict[str, Any], source: Path) -> type[LlamaForCausalLM]:
    name = str(fields.get("model_type"))
    if name not in MODELS:
        raise UnsupportedFeature(
            f"model_type must be one of {', '.join(map(repr, MODELS))} to generate text, got {name!r} ({source})"
        )
    return MODELS[name]


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig(
            f"a model's folder must hold {file.name}, got one that does not read: {error} ({file})"
        ) from error


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(file))
    except ValueError as error:
        raise InvalidConfig(f"{file.name} must be JSON, got {error} ({file})") from error
    if not isinstance(found, dict):
        raise InvalidConfig(f"{file.name} must hold one JSON object, got {type(found).__name__} ({file})")
    return found


def _tokenizer(content: str, source: Path) -> Any:
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError:
        raise MissingDependency(
            "the package tokenizers must be installed to read text, got none; pip install 'headstock[tokenizers]'"
        ) from None
    try:
        tokenizer = Tokenizer.from_str(content)
    except Exception as error:  # the package raises the bare class
        raise InvalidConfig(f"the tokenizer must be one of the package tokenizers, got {error} ({source})") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _ends(said: list[Any], model: LlamaForCausalLM, tokenizer: Any, source: Path) -> tuple[int, ...]:
    """The ids that end a text, after a check that every token has its embedding."""
    vocabulary = model.config.vocab_size
    if tokenizer.get_vocab_size() > vocabulary:
        raise InvalidConfig(
            f"the tokenizer must have at most as many tokens as the model, {vocabulary}, got "
            f"{tokenizer.get_vocab_size()} ({source})"
        )
    found: set[int] = set()
    for each in said:
        found |= {*each} if isinstance(each, list) else set() if each is None else {each}
    for each in found:
        if type(each) is not int or not 0 <= each < vocabulary:
            raise InvalidConfig(
                f"eos_token_id must be the number of one of {vocabulary} tokens, got {each!r} ({source})"
            )
    return tuple(sorted(found))
