"""Tokens one after the other: each row's next one is chosen, given out, and read by the model in its turn."""

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, TypeAlias

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from headstock.caches import Cache
from headstock.errors import InvalidConfig, InvalidShape
from headstock.models.generation.sampling import Sampling

__all__ = ["CacheKind", "Generating", "generate"]

CacheKind: TypeAlias = Literal["growing", "sliding", "static"]
_GREEDY = Sampling()


class Generating(Protocol):
    """A model that can generate, as `headstock.models.llama.LlamaForCausalLM` can."""

    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        /,
        *,
        cache: Cache | None,
        logits_to_keep: int,
        rope_length: int | Tensor | None,
    ) -> Any:
        """An object with `logits` `[batch, logits_to_keep, vocabulary]`."""

    def new_cache(self, kind: CacheKind = ..., *, max_length: int | None = ...) -> Cache:
        """An empty cache."""


def generate(
    model: Generating,
    input_ids: Int[Tensor, "batch tokens"],
    *,
    max_new_tokens: int,
    attention_mask: Bool[Tensor, "batch keys"] | Int[Tensor, "batch keys"] | None = None,
    sampling: Sampling = _GREEDY,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    cache: Cache | CacheKind | None = "growing",
    stop_ids: Collection[int] = (),
    pad_id: int | None = None,
) -> Iterator[Int[Tensor, " batch"]]:
    """Continue each row by one token at a time, given out as they come; the arguments are checked at once.

    Frequencies that depend on the length of the text are those of the prompt and `max_new_tokens` together, with and
    without a cache. The last token given out has not gone into the cache.

    Args:
        model: in evaluation mode.
        input_ids: the prompts, rows of different lengths padded on the left.
        max_new_tokens: the most tokens to give out.
        attention_mask: True or 1 for the tokens that are no padding; with a cache that has seen tokens, for those too.
        sampling: how a token is chosen; greedy where nothing is said.
        seed: of a generator of random numbers made for this call on the model's device.
        generator: draws the random numbers; with neither, torch's own does, and then what transformers draws.
        cache: the kind of cache to make, a cache to go on with, or None to compute the whole text for each token.
        stop_ids: a row ends with one of these, which is given out; it goes on with `pad_id` until all rows have ended.
        pad_id: None for the least of `stop_ids`.

    Raises:
        InvalidConfig: an argument is impossible, or seed and generator are both given.
        InvalidShape: ids and mask do not fit each other, or a row is empty or padded on the right.

    Example:
        >>> from headstock.models.llama import LlamaConfig, LlamaForCausalLM
        >>> config = LlamaConfig(vocab_size=50, hidden_size=8, intermediate_size=16, num_hidden_layers=2,
        ...                      num_attention_heads=2, max_position_embeddings=32)
        >>> model = LlamaForCausalLM(config).eval()
        >>> prompts = torch.tensor([[3, 1, 4], [1, 5, 9]])
        >>> torch.stack(list(generate(model, prompts, max_new_tokens=5)), 1).shape
        torch.Size([2, 5])
    """
    _check(input_ids, max_new_tokens, stop_ids)
    if seed is not None:
        if generator is not None:
            raise InvalidConfig("either seed or generator must be given, got both; a generator has a seed of its own")
        if type(seed) is not int or not 0 <= seed < 2**63:
            raise InvalidConfig(f"seed must be a whole number of at least 0 and below 2**63, got {seed!r}")
        generator = torch.Generator(input_ids.device).manual_seed(seed)
    run = _Run(model, input_ids, attention_mask, max_new_tokens, cache)
    ends = _Ends(stop_ids, pad_id, input_ids)
    return _given_out(run, ends, max_new_tokens, lambda logits: sampling.choose(logits, generator))


def _given_out(
    run: "_Run", ends: "_Ends", count: int, choose: Callable[[Tensor], Tensor]
) -> Iterator[Int[Tensor, " batch"]]:
    for _ in range(count):
        # Left before the token is given out: what the caller does with it is not in inference mode.
        with run.mode():
            token = ends.applied(choose(run.logits()))
            run.take(token)
        yield token.clone()
        if ends.all_ended():
            return


class _Run:
    """The model's side: what it has read, and what it reads next."""

    def __init__(
        self,
        model: Generating,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        count: int,
        cache: Cache | CacheKind | None,
    ) -> None:
        self.model = model
        self.mode: Callable[[], AbstractContextManager[None]] = torch.inference_mode
        self.cache: Cache | None = None
        seen, (batch, tokens) = 0, input_ids.shape
        if isinstance(cache, Cache):
            # The caller's storage must not become that of inference tensors, which nothing else may change.
            self.mode, self.cache, seen = torch.no_grad, cache, cache.seen
        elif cache is not None:
            self.cache = model.new_cache(cache, max_length=tokens + count if cache == "static" else None)
        total = seen + tokens + count
        self.end = seen + tokens
        self.keep = _kept(attention_mask, batch, self.end, total, input_ids.device)
        self.rope_length: int | Tensor = total if self.keep is None else self.keep.sum(1)
        self.ids = input_ids
        if self.cache is None:
            self.ids = torch.cat([input_ids, input_ids.new_zeros(batch, count)], 1)

    def logits(self) -> Tensor:
        """The scores `[batch, vocabulary]` of the next token."""
        ids = self.ids if self.cache is not None else self.ids[:, : self.end]
        keep = None if self.keep is None else self.keep[:, : self.end]
        output = self.model(ids, keep, cache=self.cache, logits_to_keep=1, rope_length=self.rope_length)
        logits: Tensor = output.logits[:, -1]
        return logits

    def take(self, token: Tensor) -> None:
        """Let the model read a token of each row."""
        if self.cache is not None:
            self.ids = token[:, None]
        else:
            self.ids[:, self.end] = token
        self.end += 1


class _Ends:
    """Which rows have ended."""

    def __init__(self, stop_ids: Collection[int], pad_id: int | None, input_ids: Tensor) -> None:
        self.stops = torch.tensor(sorted(stop_ids), device=input_ids.device, dtype=input_ids.dtype)
        self.pad = pad_id if pad_id is not None else min(stop_ids, default=0)
        self.ended = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    def applied(self, token: Tensor) -> Tensor:
        """The token of each row that goes on, padding for the others."""
        if not len(self.stops):
            return token
        token = token.masked_fill(self.ended, self.pad)
        self.ended = self.ended | torch.isin(token, self.stops)
        return token

    def all_ended(self) -> bool:
        """Whether no row goes on."""
        return bool(len(self.stops)) and bool(self.ended.all())


def _kept(
    attention_mask: Tensor | None, batch: int, end: int, total: int, device: torch.device
) -> Bool[Tensor, "batch total"] | None:
    """True for the tokens of prompts and continuations, None where there is no padding."""
    if attention_mask is None:
        return None
    if attention_mask.shape != (batch, end) or attention_mask.is_floating_point():
        raise InvalidShape(
            f"attention_mask must be booleans or integers [{batch}, {end}], a column for each token, those in the "
            f"cache included, got {attention_mask.dtype} {list(attention_mask.shape)}"
        )
    keep = attention_mask != 0
    if bool(keep.all()):
        return None
    if not bool(keep[:, -1].all()):
        raise InvalidShape("prompts must be padded on the left, got a row whose last token is padding")
    return torch.cat([keep, keep.new_ones(batch, total - end)], 1).to(device)


def _check(input_ids: Tensor, max_new_tokens: int, stop_ids: Collection[int]) -> None:
    if input_ids.ndim != 2 or input_ids.numel() == 0 or input_ids.dtype not in {torch.int64, torch.int32}:
        raise InvalidShape(
            "input_ids must be integers [batch, tokens] with at least one token a row, got "
            f"{input_ids.dtype} {list(input_ids.shape)}"
        )
    if type(max_new_tokens) is not int or max_new_tokens < 1:
        raise InvalidConfig(f"max_new_tokens must be a whole number of at least 1, got {max_new_tokens!r}")
    if not all(type(each) is int and each >= 0 for each in stop_ids):
        raise InvalidConfig(f"stop_ids must be numbers of tokens, got {sorted(map(repr, stop_ids))}")
