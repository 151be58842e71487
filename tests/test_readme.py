"""The README and the pages in docs tell the truth: code runs, journeys are short, names, files and tests exist."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = [str(page.relative_to(ROOT)) for page in sorted((ROOT / "docs").glob("**/*.md"))]
PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", *DOCS)
}
README = PAGES["README.md"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
BLOCKS: list[str] = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
JOURNEYS, (MASKS, CHOICE, TRANSFORMERS, PARTS) = BLOCKS[:3], BLOCKS[3:]
REGISTRIES: list[tuple[str, str]] = re.findall(r"^\| (`.+?`) \| .+? \| `([\w.]+)` \|$", README, re.MULTILINE)
TARGETS = sorted(set(re.findall(r"^make (\w+) ", "\n".join(PAGES.values()), re.MULTILINE)))


def journey(line: str) -> str:
    (found,) = [each for each in JOURNEYS if line in each]
    return found


def in_a_fresh_interpreter(code: str) -> str:
    """What `code` prints where warnings are errors; a failure shows its traceback."""
    run = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_mask_is_drawn_planned_and_attended_to() -> None:
    check = "expected = attend(query, key, value, mask=mask, implementation='sdpa')\n"
    check += "torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)\n"
    printed = in_a_fresh_interpreter(MASKS + check)
    assert "BlockPlan(1 x 1 x 64 x 64 blocks of 128 x 128" in printed
    assert "none visible" in printed


def test_the_choice_is_told() -> None:
    check = "expected = attend(query, key, value, mask=causal() & sliding_window(128), softcap=30.0, "
    check += "implementation='eager')\ntorch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)\n"
    printed = in_a_fresh_interpreter(CHOICE + check).splitlines()
    assert printed[0].split()[0] == "blocked"
    assert any(line.split()[0] == "sdpa" and "times slower" in line for line in printed)
    assert printed[-1] == "sdpa"


def test_a_model_of_transformers_is_run_and_overridden() -> None:
    assert in_a_fresh_interpreter(TRANSFORMERS).splitlines() == ["torch.Size([1, 64, 100])"]


def test_the_parts_of_a_model_run() -> None:
    printed = in_a_fresh_interpreter(PARTS + "print(keys.shape, values.shape == value.shape)\n").splitlines()
    assert "'yarn'" in printed[0]
    assert printed[1] == "torch.Size([1, 8, 10, 64]) True"


@pytest.mark.parametrize("code", JOURNEYS, ids=["register", "checkpoint", "override"])
def test_a_journey_takes_at_most_ten_lines_beside_its_imports(code: str) -> None:
    tree = ast.parse(code)
    imports = sum(isinstance(node, ast.Import | ast.ImportFrom) for node in tree.body)
    assert len([line for line in code.splitlines() if line.strip()]) - imports <= 10


def test_a_registered_function_runs_under_its_causal_mask() -> None:
    check = (
        "assert output.shape == (2, 4, 16, 8)\n"
        "again = attend(*(value := torch.randn(3, 2, 4, 16, 8)), mask=causal(), implementation='cosine')\n"
        "torch.testing.assert_close(again[:, :, 0], value[2][:, :, 0])  # the first query sees the first key alone\n"
    )
    in_a_fresh_interpreter(journey("AttentionInterface.register") + check)


def test_the_checkpointed_model_has_the_gradients_of_the_plain_one() -> None:
    check = (
        "values = torch.randn(2, 64)\n"
        "grads = []\n"
        "for policy in ('full', None):\n"
        "    model.zero_grad()\n"
        "    set_gradient_checkpointing(model, policy=policy)\n"
        "    model(values).sum().backward()\n"
        "    grads.append([each.grad.clone() for each in model.parameters()])\n"
        "torch.testing.assert_close(*grads, rtol=0, atol=0)\n"
    )
    assert "full" in in_a_fresh_interpreter(journey("set_gradient_checkpointing") + check)


def test_an_override_is_told_as_local_shared_and_scope() -> None:
    printed = in_a_fresh_interpreter(journey("override") + "print('---', second.attention.where('sdpa'))\n")
    inside, after = printed.split("---")
    first, second, scoped = inside.strip().split("\n'sdpa'")
    assert "local" in first
    assert "eager" in first
    assert "shared" in second
    assert "local" not in second
    assert "scope" in scoped
    assert "scope" not in after


def test_the_table_of_registries_is_read() -> None:
    assert len(REGISTRIES) == 6


@pytest.mark.parametrize(("names", "module"), REGISTRIES, ids=lambda text: text.split("`")[1] if "`" in text else text)
def test_the_registries_named_exist_where_the_table_says(names: str, module: str) -> None:
    interface, shared = (getattr(importlib.import_module(module), name) for name in re.findall(r"`(\w+)`", names))
    assert isinstance(shared, interface)
    assert len(shared) > 0
    assert getattr(importlib.import_module("headstock"), interface.__name__) is interface


@pytest.mark.parametrize("target", TARGETS)
def test_the_commands_named_are_targets(target: str) -> None:
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", PAGES[page], flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^)]+)\)", text)
    folder = (ROOT / page).parent
    assert [each for each in links if not each.startswith("https://") and not (folder / each).exists()] == []


def test_pages_have_code_but_for_those_that_a_command_makes() -> None:
    assert [page for page in DOCS if "```python" not in PAGES[page]] == ["docs/attention-matrix.md"]


@pytest.mark.parametrize("page", [page for page in DOCS if "```python" in PAGES[page]])
def test_the_code_of_a_page_runs(page: str) -> None:
    run = [sys.executable, "-W", "error", str(ROOT / "tests" / "support" / "pages.py"), str(ROOT / page)]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_page_whose_code_fails_is_told(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Text.\n\n```python\ntwo = 2\n```\n\n```python\n>>> two + 1\n4\n```\n", encoding="utf-8")
    run = [sys.executable, str(ROOT / "tests" / "support" / "pages.py"), str(page)]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f'File "{page}", line 8' in done.stdout
    assert "Got:\n    3\n" in done.stdout


@pytest.mark.parametrize("page", DOCS)
def test_the_tests_that_a_page_names_exist(page: str) -> None:
    there = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").glob("**/test_*.py"))
    assert [name for name in re.findall(r"`(test_\w+)`", PAGES[page]) if f"def {name}(" not in there] == []


def test_the_places_named_for_contributions_exist() -> None:
    there = re.sub(r"## Add a RoPE variant.*?(?=^## )", "", PAGES["CONTRIBUTING.md"], flags=re.DOTALL | re.MULTILINE)
    places = re.findall(r"`(src/[\w/]+\.py|tests/[\w/]+\.py)`", there)
    folders = {Path(each).parent if "NAME" in each else Path(each) for each in places}
    assert len(folders) > 6
    assert [each for each in sorted(folders) if not (ROOT / each).exists()] == []
