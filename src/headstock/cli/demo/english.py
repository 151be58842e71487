"""Chapter 6: SmolLM2 writes English under attention functions by name, one of them in a range of layers only."""

import time
from pathlib import Path
from typing import NamedTuple

from headstock.cli.demo.report import Report
from headstock.models.generation import generate
from headstock.models.generation.text import TextModel

__all__ = ["Written", "load_smollm2", "show_generation"]

PROMPT = "Once upon a time, in a small village by the sea,"
QUESTION, ANSWER = "The capital of France is", " Paris."
TOKENS = 24
LAYERS = range(10)
SAME = "rounding is far smaller than the best token's lead"


class Written(NamedTuple):
    """What a run wrote, and how quickly."""

    tokens: list[int]
    text: str
    rate: float


def load_smollm2(report: Report, file: Path) -> TextModel:
    """The model and its tokenizer, both out of the GGUF file."""
    with report.working(f"reading {file.name} (134.5 million parameters, 4 bits each) to float32"):
        return TextModel.read(file, "sdpa")


def show_generation(report: Report, smollm2: TextModel) -> None:
    """The same prompt under `sdpa`, `eager`, and `sdpa` with the first layers under `eager`."""
    model, runs = smollm2.model, {}
    with report.working(f"generating {TOKENS} tokens three times"):
        for name, function, first in (
            ("sdpa", "sdpa", "sdpa"),
            ("eager", "eager", "eager"),
            ("mixed", "sdpa", "eager"),
        ):
            model.set_attention(function)
            model.set_attention(first, layers=LAYERS)
            runs[name] = _written(smollm2, PROMPT, TOKENS)
    model.set_attention("sdpa")
    report.console.print(f"[bold]{PROMPT}[/]{runs['sdpa'].text}", highlight=False)
    mixed = f"sdpa, layers {LAYERS[0]}-{LAYERS[-1]} eager"
    rows = [[mixed if name == "mixed" else name, f"{run.rate:.1f}"] for name, run in runs.items()]
    report.table("The same text, token by token from a cache", ["function", "tokens per second"], rows)
    for name in ("eager", "mixed"):
        differ = sum(a != b for a, b in zip(runs[name].tokens, runs["sdpa"].tokens, strict=True))
        report.check(f"tokens that differ, {mixed if name == 'mixed' else name} - sdpa", differ, 0, SAME)
    answer = _written(smollm2, QUESTION, 2).text
    report.console.print(f"[bold]{QUESTION}[/]{answer}", highlight=False)
    report.check(f"answers other than{ANSWER}", int(answer != ANSWER), 0, "the weights are real")


def _written(smollm2: TextModel, prompt: str, count: int) -> Written:
    ids = smollm2.tokens(prompt)
    started = time.perf_counter()
    tokens = [int(each) for each in generate(smollm2.model, ids, max_new_tokens=count)]
    rate = len(tokens) / (time.perf_counter() - started)
    stream = smollm2.stream(ids)
    return Written(tokens, "".join(map(stream.add, tokens)) + stream.rest(), rate)
