"""docs/attention-matrix.md says what `make matrix` finds: no cell is written by hand, and none says anything else."""

from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from benchmarks.matrix import __main__ as command
from benchmarks.matrix.calls import KINDS, Kind, Place
from benchmarks.matrix.cells import EXACT, REFUSED, SLOW_TO_START, cell, cells_of, names
from benchmarks.matrix.elsewhere import refusals
from benchmarks.matrix.page import PAGE, page, read_cells, stored
from headstock.attention import ALL_ATTENTION_FUNCTIONS, AUTO
from headstock.errors import UnsupportedFeature, WrongResult
from headstock.registry import declare

TEXT = PAGE.read_text(encoding="utf-8")
CELLS = read_cells(TEXT)
CPU = torch.device("cpu")
FALSIFIED = {"causal", "gradients", "dropout", "torch.compile(fullgraph=True)", "torch.export"}


def test_it_has_a_cell_for_each_implementation_and_each_kind_of_call() -> None:
    assert list(CELLS) == [kind.name for kind in KINDS]
    assert all(list(row) == [AUTO, *sorted(ALL_ATTENTION_FUNCTIONS)] for row in CELLS.values())
    assert {word for row in CELLS.values() for word in row.values()} == {EXACT, REFUSED}


def test_the_text_is_what_the_command_prints_for_these_cells(capsys: pytest.CaptureFixture[str]) -> None:
    assert page(CELLS, stored()) == TEXT
    with mock.patch.object(command, "cells_of", return_value=CELLS):
        command.main(["--print"])
    assert capsys.readouterr().out == TEXT


@pytest.mark.parametrize("name", [name for name in names() if name not in SLOW_TO_START])
def test_each_cell_is_what_the_call_gives(name: str) -> None:
    found = cells_of(CPU, [name])
    assert {kind: row[name] for kind, row in found.items()} == {kind: row[name] for kind, row in CELLS.items()}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SLOW_TO_START)
def test_each_cell_is_what_the_call_gives_where_it_compiles(name: str) -> None:
    test_each_cell_is_what_the_call_gives(name)


@pytest.mark.cuda
@pytest.mark.parametrize("name", names())
def test_each_call_on_a_cuda_device_is_exact_or_refused(name: str) -> None:
    words = {row[name] for row in cells_of(torch.device("cuda"), [name]).values()}
    assert words <= ({EXACT} if name in (AUTO, "eager") else {EXACT, REFUSED})


def test_auto_and_eager_refuse_nothing() -> None:
    assert all(row[AUTO] == row["eager"] == EXACT for row in CELLS.values())


def test_a_wrong_result_is_no_cell() -> None:
    def wrong(place: Place) -> None:
        raise WrongResult("the output must be right, got another")

    def refused(place: Place) -> None:
        raise UnsupportedFeature("not this")

    place = Place("eager", CPU)
    with pytest.raises(WrongResult) as info:
        cell(Kind("mask", "mine", wrong), place)
    assert info.value.__notes__ == ["in 'mine' by eager on cpu"]
    assert cell(Kind("mask", "mine", refused), place) == REFUSED
    assert cell(Kind("mask", "mine", lambda place: None), place) == EXACT


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.name in FALSIFIED], ids=lambda kind: kind.name)
def test_a_wrong_implementation_is_found(kind: Kind) -> None:
    blocked = ALL_ATTENTION_FUNCTIONS["blocked"]

    def wrong(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any) -> Any:
        return blocked(module, query * 1.5, key, value, mask, **options)

    declare(wrong, mask="dense", features={"dropout"})

    with ALL_ATTENTION_FUNCTIONS.override(sdpa=wrong), pytest.raises(WrongResult):
        cell(kind, Place("sdpa", CPU))


def test_what_is_refused_elsewhere_follows_from_the_declarations() -> None:
    on_cuda, on_mps = refusals("cuda"), refusals("mps")
    assert on_cuda["eager"] == on_mps["eager"] == []
    assert on_mps["varlen"] == ["everything"]
    assert "softcap" in on_cuda["varlen"]
    assert "float32" in on_cuda["flash_attention_2"]
    assert "weights" in on_cuda["blocked"]
