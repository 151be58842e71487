"""Runs the Python blocks of a Markdown page, one after another in one namespace, those with prompts as doctests.

`python tests/support/pages.py docs/rope.md` exits with 1 where one fails, and tells which.
"""

import doctest
import re
import sys
from pathlib import Path
from typing import Any

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def run(page: Path) -> int:
    """The number of failures."""
    text = page.read_text(encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    runner = doctest.DocTestRunner()
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start(1))
        if ">>> " in match[1]:
            example = doctest.DocTestParser().get_doctest(match[1], namespace, page.name, str(page), line)
            runner.run(example, clear_globs=False)
            namespace = example.globs
        else:
            exec(compile("\n" * line + match[1], str(page), "exec"), namespace)
    return runner.failures


if __name__ == "__main__":
    sys.exit(min(run(Path(sys.argv[1])), 1))
