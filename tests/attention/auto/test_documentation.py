"""The example in docs/choosing.md runs as it stands."""

import doctest
from pathlib import Path

DOCUMENT = Path(__file__).parents[3] / "docs" / "choosing.md"


def test_the_example_runs() -> None:
    found = doctest.testfile(str(DOCUMENT), module_relative=False)
    assert found.attempted > 5
    assert found.failed == 0
