"""`headstock generate`: text from a model as it comes, and how quickly it came."""

import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from torch import Tensor

from headstock.cli.demo.weights import SMOLLM2, package_file
from headstock.errors import InvalidConfig
from headstock.models.generation import Sampling, generate
from headstock.models.generation.text import TextModel

__all__ = ["Request", "layer_choices", "run"]

CacheName = Literal["growing", "static", "sliding", "none"]
USUAL = 64  # tokens, where nothing is said
INTERRUPTED = 130  # what shells report for Ctrl-C
_CHOICE = re.compile(r"(\d+)(?:-(\d+))?=(.+)")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for on the command line.

    Attributes:
        prompt: the text to go on from.
        model: a folder or a `.gguf` file; None for SmolLM2 from its package.
        max_tokens: the most tokens to generate; None for 64, or as many as fit.
        sampling: how tokens are chosen.
        seed: of the random numbers.
        attention: name of the attention function.
        layers: overrides of it, `0-3=eager`, the later ones winning.
        cache: the kind of cache.
        dtype: of the weights; None for the file's.
        threads: how many torch uses; None for its own choice.
        echo: whether the prompt is shown before the text.
    """

    prompt: str
    model: Path | None = None
    max_tokens: int | None = None
    sampling: Sampling = field(default_factory=Sampling)
    seed: int | None = None
    attention: str = "auto"
    layers: tuple[str, ...] = ()
    cache: CacheName = "growing"
    dtype: torch.dtype | None = None
    threads: int | None = None
    echo: bool = False


@dataclass
class Pace:
    """When the prompt was handed over, when each token came."""

    started: float
    came: list[float]

    def told(self, prompt: int) -> str:
        """One line of figures; a rate needs two tokens."""
        count = len(self.came)
        if not count:
            return f"no token after {time.perf_counter() - self.started:.2f} s"
        line = (
            f"{count} token{'s' * (count > 1)} in {self.came[-1] - self.started:.2f} s; "
            f"prefill of {prompt} token{'s' * (prompt > 1)}: {self.came[0] - self.started:.3f} s"
        )
        if count > 1:
            line += f", then {(count - 1) / (self.came[-1] - self.came[0]):.1f} tokens per second"
        return line


def run(request: Request) -> int:
    """Generate, the text to the standard output and the figures to the standard error; the exit status.

    Raises:
        HeadstockError: the request, the model or its files are refused.
    """
    if not request.prompt:
        raise InvalidConfig("the prompt must hold text, got ''")
    with _threads(request.threads):
        return _generate(request)


def _generate(request: Request) -> int:
    told = Console(stderr=True, highlight=False, soft_wrap=True)
    source = package_file(*SMOLLM2) if request.model is None else request.model
    with told.status(f"loading {source.name} ..."):
        text_model = TextModel.read(source, request.attention, dtype=request.dtype)
    for layers, name in layer_choices(request.layers, len(text_model.model.layers)):
        text_model.model.set_attention(name, layers=layers)
    prompt = text_model.tokens(request.prompt)
    count = _count(text_model, prompt.shape[1], request.max_tokens)
    pace, status = Pace(time.perf_counter(), []), 0
    try:
        _show(text_model, request, prompt, count, pace)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:  # whoever read the text has enough, as in `| head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    told.print(pace.told(prompt.shape[1]), markup=False)
    return status


def _show(text_model: TextModel, request: Request, prompt: Tensor, count: int, pace: Pace) -> None:
    text = text_model.stream(prompt)
    cache = None if request.cache == "none" else request.cache
    tokens = generate(
        text_model.model,
        prompt,
        max_new_tokens=count,
        sampling=request.sampling,
        seed=request.seed,
        cache=cache,
        stop_ids=text_model.stop_ids,
    )
    try:
        if request.echo:
            _write(request.prompt)
        for token in tokens:
            pace.came.append(time.perf_counter())
            _write(text.add(int(token)))
    finally:
        _write(text.rest() + "\n")


def _count(text_model: TextModel, prompt: int, asked: int | None) -> int:
    """How many tokens to generate after a prompt of so many."""
    most = text_model.model.config.max_position_embeddings
    count = max(1, min(USUAL, most - prompt)) if asked is None else asked
    if prompt + count > most:
        raise InvalidConfig(
            f"the prompt and the tokens to generate must be at most {most} tokens, which the model was made for, got "
            f"{prompt} and {count}; shorten the prompt or lower --max-tokens"
        )
    return count


def layer_choices(choices: tuple[str, ...], count: int) -> list[tuple[range, str]]:
    """The layers and the name in each of `0-3=eager`, `5=sdpa`; `count` is how many layers there are.

    Raises:
        InvalidConfig: a choice is written otherwise, runs backwards, or names a layer that there is not.

    Example:
        >>> layer_choices(("0-3=eager", "5=sdpa"), 30)
        [(range(0, 4), 'eager'), (range(5, 6), 'sdpa')]
    """
    found = []
    for choice in choices:
        matched = _CHOICE.fullmatch(choice)
        if matched is None:
            raise InvalidConfig(f"--layers must be layers and a name, as 0-3=eager or 5=sdpa, got {choice!r}")
        first, last = int(matched[1]), int(matched[2] or matched[1])
        if not first <= last < count:
            raise InvalidConfig(
                f"--layers must name layers in 0..{count - 1}, the first one first, got {first}-{last} in {choice!r}"
            )
        found.append((range(first, last + 1), matched[3]))
    return found


def _write(text: str) -> None:
    """To the standard output at once; what its encoding cannot spell becomes a question mark."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
