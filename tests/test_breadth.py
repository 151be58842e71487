"""The table of architectures: what it counts, what it would catch, and that no architecture is wrong."""

from collections import Counter
from typing import Any

import pytest
import torch

from benchmarks.breadth import cases, check
from benchmarks.breadth.__main__ import main
from benchmarks.breadth.checking import TOLERANCE
from headstock.integrations.transformers.package import tables
from tests.support.transformers_attention import with_headstock

pytestmark = pytest.mark.filterwarnings("ignore")  # of configurations with sizes that nobody uses
NAMED = (
    *("llama", "llama4_text", "mistral", "mixtral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "gpt2"),
    *("gpt_neox", "gpt_oss", "phi3", "olmo3", "cohere2", "deepseek_v3", "granite", "glm4"),
)


def test_the_architectures_that_were_promised_are_among_the_cases() -> None:
    assert set(NAMED) <= {case.kind for case in cases(["causal"])}
    assert {"bert", "modernbert"} <= {case.kind for case in cases(["masked"])}
    assert {"t5", "bart", "whisper"} <= {case.kind for case in cases(["seq2seq"])}


def test_the_table_and_the_counts_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with with_headstock():
        main(["llama", "bloom", "--tasks", "causal", "--implementations", "headstock", "sdpa"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "| task | architecture | headstock | sdpa |"
    assert [line.split(" | ")[1] for line in printed if line.startswith("| causal")] == ["bloom", "llama"]
    assert "causal, headstock: 1 never called, 1 equal" in printed


@pytest.mark.parametrize("shift", [0.0, 1e-2])
def test_a_wrong_result_is_called_wrong(shift: float, monkeypatch: pytest.MonkeyPatch) -> None:
    with with_headstock():
        original = tables().attention["headstock"]

        def shifted(*arguments: Any, **keywords: Any) -> Any:
            output, weights = original(*arguments, **keywords)
            return output + shift * torch.randn_like(output), weights

        with monkeypatch.context() as patch:
            patch.setitem(tables().attention, "headstock", shifted)
            verdict = check(cases(["causal"], ["llama"])[0], "headstock")
    assert verdict.outcome == ("wrong" if shift else "equal")
    assert (verdict.error > TOLERANCE) is bool(shift)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(12))
def test_no_architecture_is_wrong_or_refused(part: int) -> None:
    with with_headstock():
        found = {(case.task, case.kind): check(case, "headstock") for case in cases()[part::12]}
    bad = {kind: verdict for (_, kind), verdict in found.items() if verdict.outcome in {"wrong", "refused"}}
    assert bad == {}
    assert Counter(verdict.outcome for verdict in found.values())["equal"] >= len(found) // 3
