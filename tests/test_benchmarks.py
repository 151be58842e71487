"""The benchmarks run at tiny sizes and print their ratios; how fast anything is, no test says."""

import itertools
import json
import re
import time
from pathlib import Path

import pytest
import torch

from benchmarks import imports
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.compare import Contestant, Result, Settings, Target, agreeing, compared, interleaved, quantity, table
from benchmarks.record import environment, write

SLOW = {"blocked", "generate", "generation", "masks", "models"}  # half a minute each, tiny as they are
TINY = ["--tiny", "--pairs", "2", "--seconds", "0.0001"]
# What each benchmark sets headstock against, and how many of its ratios have a target.
EXPECTED = {
    "lookup": (["transformers AttentionInterface", "ChainMap of 2", "ChainMap of 4", "dict"], 2),
    "conv1d": (["nn.Linear", "transformers Conv1D"], 8),
    "attention": (["F.sdpa", "transformers sdpa", "transformers eager", "F.sdpa, enable_gqa"], 6),
    "checkpointing": (["no checkpointing", "transformers"], 0),
    "models": (["transformers"], 0),
    "generation": (["transformers"], 2),
    "generate": (["sdpa"], 4),
    "masks": (["to_dense", "create_block_mask", "dense mask", "one plan"], 0),
    "blocked": (["F.sdpa, causal", "F.sdpa, dense", "F.sdpa", "eight calls", "512 tokens", "dense boolean mask"], 0),
    "auto": (["sdpa", "F.sdpa, repeated keys"], 0),
    "rotation": (["transformers", "transformers glm", "copy of q and k"], 6),
    "long_context": (["sdpa", "4 x 256 tokens"], 3),
}


def rows(printed: str) -> list[list[str]]:
    """The cells of the table's rows, without its header."""
    lines = [line for line in printed.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def result(ratio: float = 1.0, value: float = 1.0, target: Target | None = None) -> Result:
    return Result("b", "c", 1, "s", "ours", value, "theirs", value / ratio, ratio, ratio, ratio, 1, target)


@pytest.mark.parametrize(("threads", "counted"), [(1, False), (2, True)])
def test_the_cpu_clock_counts_no_waiting_on_one_thread(threads: int, counted: bool) -> None:
    sleeping = Contestant("sleep", "sleep(0.02)", {"sleep": time.sleep})
    assert (Settings(clock="cpu").timer(sleeping, threads).timeit(2).median >= 0.02) is counted


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in EXPECTED]
)
def test_a_benchmark_prints_a_ratio_for_each_pair(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([name, *TINY])
    printed = capsys.readouterr().out
    found = rows(printed)
    opponents, targets = EXPECTED[name]
    assert {row[0] for row in found} == {name}
    assert set(opponents) <= {row[5] for row in found}
    assert all(float(row[7].split()[0]) > 0 for row in found if row[4].endswith("s"))  # of bytes it may round to 0
    assert sum(row[8].startswith("<= ") and row[9] in {"met", "MISSED"} for row in found) == targets
    met, missed = map(int, re.findall(r"^(\d+) targets met, (\d+) missed$", printed, re.MULTILINE)[0])
    assert met + missed == targets


def test_every_benchmark_is_run_by_a_test() -> None:
    assert {*EXPECTED, "imports"} == set(BENCHMARKS)


def test_imports_are_counted_over_the_base_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "base_module.py").write_text("import decimal")
    (tmp_path / "part.py").write_text("import time\ntime.sleep(0.05)")
    (tmp_path / "slow_module.py").write_text("import base_module, decimal, part")
    (tmp_path / "quick_module.py").write_text("import base_module")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    wall, cpu = (imports.cost("base_module", "slow_module", clock=clock) for clock in ("wall", "cpu"))
    assert set(wall.micros) == set(cpu.micros) == {"part", "slow_module"}
    assert cpu.seconds < 0.05 <= wall.seconds  # it sleeps
    (found,) = imports.run(Settings(pairs=1), base="base_module", modules=("slow_module", "quick_module"))
    assert found.value == pytest.approx(found.ratio * found.reference)
    assert found.value >= 0.05
    assert re.search(r"import slow_module: part \d+ ms, slow_module \d+ ms; import quick_module: quick", found.note)
    assert found.target == Target(0.5, of="value")


def test_torch_and_headstock_are_told_by_sub_package() -> None:
    assert imports.package("torch._dynamo.utils") == "torch._dynamo"
    assert imports.package("headstock.masks.mask") == "headstock.masks"
    assert imports.package("headstock") == "headstock"
    assert imports.package("pydantic.main") == "pydantic"


def test_contestants_are_measured_in_turn() -> None:
    log: list[str] = []
    both = [Contestant(name, f"log.append({name!r})", {"log": log}) for name in "ab"]
    samples = interleaved(both, Settings(pairs=4, seconds=1e-5))
    turns = "".join(name for name, _ in itertools.groupby(log))
    assert turns.endswith("abababab")
    assert {name: len(times) for name, times in samples.items()} == {"a": 4, "b": 4}


def test_a_time_is_that_of_one_run() -> None:
    # About twenty runs of one in a measurement and one of the other: their sums are alike, one run is not.
    both = [Contestant(str(wait), f"sleep({wait})", {"sleep": time.sleep}) for wait in (0.001, 0.02)]
    (found,) = compared("b", "c", interleaved(both, Settings(pairs=5, seconds=0.02)))
    assert found.value >= 0.001
    assert found.ratio < 0.5


def test_the_ratio_is_the_median_of_the_pairs_ratios() -> None:
    # The machine is ten times slower during the second pair: the ratio of the medians would be 1.
    samples = {"ours": [2.0, 20.0, 4.0], "theirs": [1.0, 10.0, 4.0]}
    (found,) = compared("b", "c", samples)
    assert (found.ratio, found.value, found.reference) == (2.0, 4.0, 4.0)
    assert (found.low, found.high) == (1.5, 2.0)


def test_the_first_is_compared_with_each_of_the_others() -> None:
    found = compared("b", "c", {"ours": [3.0], "one": [1.0], "two": [2.0]}, targets={"two": Target(1.4)})
    assert [(each.against, each.ratio, each.met) for each in found] == [("one", 3.0, None), ("two", 1.5, False)]


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (None, None),
        (Target(1.05), True),
        (Target(1.04), False),
        (Target(2.0, "value"), True),
        (Target(1.9, "value"), False),
    ],
)
def test_a_target_bounds_the_ratio_or_the_value(target: Target | None, met: bool | None) -> None:
    assert result(ratio=1.05, value=2.0, target=target).met is met


def test_the_table_says_met_and_missed() -> None:
    kept = [result(1.2, 150e-9, Target(1.1)), result(1.2, 150e-9, Target(150e-9, "value")), result(1.2)]
    assert [row[7:] for row in rows(table(kept))] == [
        ["1.200 (1.20-1.20)", "<= 1.1", "MISSED"],
        ["1.200 (1.20-1.20)", "<= 150 ns", "met"],
        ["1.200 (1.20-1.20)", "", ""],
    ]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(1.5, "s", "1.5 s"), (1.5e-3, "s", "1.5 ms"), (1.5e-6, "s", "1.5 us"), (15e-9, "s", "15 ns"), (0.0, "s", "0 ns"),
     (1536, "B", "1.5 KiB"), (12, "B", "12 B"), (3 * 2**20, "B", "3 MiB"), (2**30, "B", "1 GiB")],
)  # fmt: skip
def test_a_quantity_has_the_prefix_that_suits_it(value: float, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


def test_contestants_that_disagree_are_refused() -> None:
    one, other = torch.tensor([1.0]), torch.tensor([1.1])
    assert len(agreeing({"one": lambda: one, "other": lambda: other}, tolerance=0.2)) == 2
    with pytest.raises(AssertionError, match=r"other must give what one gives within 0\.01, and does not"):
        agreeing({"one": lambda: one, "other": lambda: other}, tolerance=0.01)


def test_results_are_recorded_with_what_they_were_made_on(tmp_path: Path) -> None:
    kept = [result(1.2, target=Target(1.1))]
    about = environment()
    write(tmp_path, "run", kept, about)
    text = (tmp_path / "run.md").read_text()
    read = json.loads((tmp_path / "run.json").read_text())
    assert table(kept) in text
    assert f"- torch: {torch.__version__}" in text
    assert read["environment"] == about
    assert [(each["ratio"], each["met"]) for each in read["results"]] == [(1.2, False)]
