"""The demo from beginning to end."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console

from headstock.attention import AttentionInterface
from headstock.cli.demo import custom
from headstock.cli.demo.english import LAYERS, load_smollm2, show_generation
from headstock.cli.demo.genera import load_gpt2, show_perplexity
from headstock.cli.demo.layouts import show_layouts
from headstock.cli.demo.overriding import show_override
from headstock.cli.demo.pruning import HEAD, LAYER, show_pruning
from headstock.cli.demo.report import Report
from headstock.cli.demo.similarity import encode, show_functions
from headstock.cli.demo.training import show_training
from headstock.cli.demo.weights import MICROFORMER, MINILM, SMOLLM2, package_file, package_folder

__all__ = ["tell"]


def tell(console: Console | None = None) -> bool:
    """Tell the whole story; whether every check holds.

    Raises:
        MissingDependency: the packages with the weights, or the tokenizer's, are not installed.
    """
    report = Report(Console() if console is None else console)
    minilm, microformer, smollm2 = package_folder(*MINILM), package_folder(*MICROFORMER), package_file(*SMOLLM2)
    with _one_thread(), _registered() as lines:
        _encoder_chapters(report, minilm, lines)
        _decoder_chapters(report, microformer)
        _english_chapters(report, smollm2)
    return report.finish()


def _encoder_chapters(report: Report, minilm: Path, lines: str) -> None:
    report.chapter("1. One model, three attention functions", "The third is registered by these lines:")
    encoded = encode(report, minilm)
    show_functions(report, encoded, lines)
    report.chapter("2. A head pruned", f"Head {HEAD} of layer {LAYER}, removed in one model, silenced in another.")
    show_pruning(report, encoded)
    each = "Both look eager up, each in its own table."
    report.chapter("3. An override in one of two models", f'{each} first.attention["eager"] = mean_of_values')
    show_override(report, encoded)


def _decoder_chapters(report: Report, microformer: Path) -> None:
    report.chapter("4. A decoder", "GPT-2 trained on microbiome samples: a token is a genus of bacteria.")
    model, exact = load_gpt2(report, microformer)
    show_perplexity(report, model, exact)
    report.chapter("5. Checkpointing", "Activations recomputed in backward instead of kept.")
    show_training(report, model)


def _english_chapters(report: Report, file: Path) -> None:
    first = f"layers {LAYERS[0]}-{LAYERS[-1]}"
    report.chapter(
        "6. English", f"SmolLM2 (Llama class, GQA, RoPE) under sdpa, under eager, and {first} alone under eager."
    )
    smollm2 = load_smollm2(report, file)
    show_generation(report, smollm2)
    report.chapter("7. Two layouts of RoPE", "The file stores query and key rows for rotation in pairs (2i, 2i + 1).")
    show_layouts(report, smollm2, file)


@contextmanager
def _registered() -> Iterator[str]:
    lines = custom.register()
    try:
        yield lines
    finally:
        AttentionInterface.unregister(custom.NAME)


@contextmanager
def _one_thread() -> Iterator[None]:
    """The models are small: on a busy machine, threads that wait for each other cost several times what they save."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
