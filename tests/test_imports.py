"""Imports run one way, and `import headstock` stays light."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.imports import Import, cycle, imports_of, modules_of

SOURCE = Path(__file__).parent.parent / "src"
MODULES = modules_of(SOURCE, "headstock")
IMPORTS = [each for name, file in MODULES.items() for each in imports_of(name, file, MODULES)]

# Who may import whom. `headstock` stands for the package's own `__init__`, which re-exports the public names.
CORE = {"attention", "errors", "layers", "masks", "registry", "rope"}
BELOW_LEAVES = CORE | {"caches", "models", "overrides", "headstock"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "registry": {"errors"},
    "masks": {"errors", "registry"},
    "attention": {"errors", "masks", "registry"},
    "rope": {"errors", "registry"},
    "layers": {"errors", "registry", "rope"},
    "caches": CORE,
    "models": CORE | {"caches"},
    "overrides": CORE | {"models"},
    "headstock": CORE | {"caches"},
    "compat": BELOW_LEAVES,
    "distributed": BELOW_LEAVES,
    "integrations": BELOW_LEAVES,
    "testing": BELOW_LEAVES,
    "cli": BELOW_LEAVES | {"compat", "distributed", "integrations", "testing"},
    "__main__": {"cli"},
}
REQUIRED = {"jaxtyping", "pydantic", "safetensors", "torch"}  # the run-time dependencies
OPTIONAL = {"cli": {"rich", "typer"}, "testing": {"hypothesis", "pytest"}, "integrations": {"transformers"}}
# Costs seconds, compiles, or belongs to an extra. pydantic's first model alone takes 0.2 s.
HEAVY = [
    *("beartype", "gguf", "hypothesis", "matplotlib", "numba", "numpy.testing", "pandas", "pydantic", "pytest"),
    *("PIL", "requests", "rich", "tokenizers", "torch._dynamo", "torch._inductor", "torch.distributed.tensor"),
    *("torch.nn.attention.flex_attention", "transformers", "triton", "typer"),
]


def part(module: str) -> str:
    """The sub-package (or single module) of headstock that `module` belongs to."""
    return module.split(".")[1] if "." in module else module


def told(found: list[Import]) -> list[str]:
    return [f"{MODULES[each.importer].relative_to(SOURCE)}:{each.line} imports {each.imported}" for each in found]


OWN = [each for each in IMPORTS if each.imported.split(".")[0] == "headstock"]
FOREIGN = [each for each in IMPORTS if each.imported.split(".")[0] not in {"headstock", *sys.stdlib_module_names}]


def test_the_reader_sees_the_package() -> None:
    assert Import("headstock.__main__", "headstock.cli", 3, "module", guarded=False) in OWN
    assert "headstock.registry.table" in MODULES


SAMPLE = """
from typing import TYPE_CHECKING
import sample.first
from sample import second, name
if TYPE_CHECKING:
    from sample.second import Thing
try:
    import rare
except ImportError:
    rare = None
class Holder:
    import sample.third
    def method(self):
        from sample.second import thing
"""


def test_the_reader_tells_submodules_from_names_and_where_an_import_stands(tmp_path: Path) -> None:
    package = tmp_path / "sample"
    package.mkdir()
    for name in ("__init__", "first", "second", "third"):
        (package / f"{name}.py").write_text(SAMPLE if name == "first" else "")
    modules = modules_of(tmp_path, "sample")
    found = [
        (each.imported, each.place, each.guarded)
        for each in imports_of("sample.first", modules["sample.first"], modules)
    ]
    assert found == [
        ("typing", "module", False),
        ("sample.first", "module", False),
        ("sample.second", "module", False),
        ("sample", "module", False),
        ("sample.second", "typing", False),
        ("rare", "module", True),
        ("sample.third", "module", False),
        ("sample.second", "function", False),
    ]


def test_a_cycle_is_found_with_the_way_through_it() -> None:
    assert cycle({"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"b"}}) == ["b", "d", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_every_part_has_its_place_in_the_table() -> None:
    assert {part(name) for name in MODULES} <= set(ALLOWED)


@pytest.mark.parametrize("importer", sorted(ALLOWED))
def test_imports_run_one_way(importer: str) -> None:
    allowed = ALLOWED[importer] | {importer}
    wrong = [each for each in OWN if part(each.importer) == importer and part(each.imported) not in allowed]
    assert told(wrong) == []


def test_no_module_imports_itself_through_others() -> None:
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for each in OWN:
        # A named constructor may ask the table of its own sub-package, which holds what makes its kind.
        asks_within = each.place == "function" and part(each.importer) == part(each.imported)
        if each.place != "typing" and not asks_within:
            graph[each.importer].add(each.imported)
    assert " -> ".join(cycle(graph)) == ""


def test_the_registry_knows_no_torch() -> None:
    assert told([each for each in FOREIGN if part(each.importer) == "registry" and each.place == "module"]) == []


def test_optional_packages_are_imported_in_calls_or_in_their_own_corner() -> None:
    wrong = [
        each
        for each in FOREIGN
        if each.place == "module"
        and not each.guarded
        and each.imported.split(".")[0] not in REQUIRED | OPTIONAL.get(part(each.importer), set())
    ]
    assert told(wrong) == []


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter where warnings are errors."""
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)


def test_importing_headstock_loads_nothing_heavy_and_warns_of_nothing() -> None:
    done = run(
        "import sys, torch; before = set(sys.modules); import headstock\n"
        f"print([each for each in {HEAVY} if each in sys.modules and each not in before])"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == "[]"


def test_importing_the_registry_does_not_load_torch() -> None:
    """headstock's own `__init__` does, so the registry is read through a package without one."""
    done = run(
        "import sys, types\n"
        f"package = types.ModuleType('headstock'); package.__path__ = [{str(SOURCE / 'headstock')!r}]\n"
        "sys.modules['headstock'] = package\n"
        "import headstock.registry; print('torch' in sys.modules)"
    )
    assert (done.stdout.strip(), done.stderr) == ("False", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, to import torch once for all")
def test_every_module_that_headstock_does_not_load_can_be_the_next_one_imported() -> None:
    done = run(
        "import importlib, os, sys, headstock, pydantic, typer\n"
        "import transformers.cache_utils, transformers.masking_utils, transformers.modeling_utils\n"
        f"for name in sorted({set(MODULES) - {'headstock.__main__'}} - set(sys.modules)):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        try:\n"
        "            importlib.import_module(name)\n"
        "        except BaseException as error:\n"
        "            print(f'{name}: {error!r}', flush=True)\n"
        "        os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
    )
    assert (done.stdout, done.stderr) == ("", "")
