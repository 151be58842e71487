"""The imports of a package, read from its source: who imports whom, where in the file, without running anything."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Import", "cycle", "imports_of", "modules_of"]


@dataclass(frozen=True)
class Import:
    """One imported module.

    Attributes:
        importer: the module that imports.
        imported: the module that is imported; a submodule is told from a name by looking at the files.
        line: where it stands.
        place: `module` for what runs at import, `function` for what runs in a call, `typing` under TYPE_CHECKING.
        guarded: whether a `try` that catches ImportError is around it.
    """

    importer: str
    imported: str
    line: int
    place: str
    guarded: bool


def modules_of(root: Path, package: str) -> dict[str, Path]:
    """Every module of `package`, whose folder lies in `root`, with its file."""
    found = {}
    for file in sorted((root / package).rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports_of(name: str, file: Path, modules: dict[str, Path]) -> list[Import]:
    """All imports that stand in `file`, those in functions included."""
    tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    return [
        Import(name, target, node.lineno, place, guarded)
        for node, place, guarded in _statements(tree, "module", guarded=False)
        for target in _targets(node, modules)
    ]


def _statements(node: ast.AST, place: str, *, guarded: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, str, bool]]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node, place, guarded
        return
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and place == "module":
        place = "function"
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for statement in node.body:
            yield from _statements(statement, "typing", guarded=guarded)
        for statement in node.orelse:
            yield from _statements(statement, place, guarded=guarded)
        return
    inside = guarded or (isinstance(node, ast.Try) and any(_catches_import_error(each) for each in node.handlers))
    for child in ast.iter_child_nodes(node):
        yield from _statements(child, place, guarded=inside)


def _catches_import_error(handler: ast.ExceptHandler) -> bool:
    return handler.type is not None and any(
        each in ast.unparse(handler.type) for each in ("ImportError", "ModuleNotFoundError")
    )


def _targets(node: ast.Import | ast.ImportFrom, modules: dict[str, Path]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    names = [f"{base}.{alias.name}" for alias in node.names]
    submodules = [each for each in names if each in modules]
    return submodules + ([base] if len(submodules) < len(names) else [])


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """A way through `graph` that ends where it starts, empty if there is none."""
    done: set[str] = set()

    def walk(node: str, path: tuple[str, ...]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        found = next(filter(None, (walk(each, (*path, node)) for each in sorted(graph.get(node, ())))), [])
        done.add(node)
        return found

    return next(filter(None, (walk(each, ()) for each in sorted(graph))), [])
