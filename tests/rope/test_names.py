"""The public names of `headstock.rope` and their lazy import."""

import subprocess
import sys

import pytest

import headstock
from headstock import rope


def test_names_are_sorted_and_there() -> None:
    constants = sorted(name for name in rope.__all__ if name.isupper())
    classes = sorted(name for name in rope.__all__ if name[0].isupper() and not name.isupper())
    assert rope.__all__ == [*constants, *classes, *sorted(name for name in rope.__all__ if name[0].islower())]
    assert all(hasattr(rope, name) for name in rope.__all__)
    assert set(rope.__all__) <= set(dir(rope))


SHARED = [
    *("ROPE_INIT_FUNCTIONS", "RopeInterface", "RopeParameters", "RotaryEmbedding", "apply_rotary_pos_emb"),
    "dynamic_rope_update",
]


@pytest.mark.parametrize("name", SHARED)
def test_headstock_has_the_same(name: str) -> None:
    assert name in headstock.__all__
    assert name in dir(headstock)
    assert getattr(headstock, name) is getattr(rope, name)


def test_headstocks_names_are_sorted_and_there() -> None:
    plain = [name for name in headstock.__all__ if name != "__version__"]
    groups = [
        sorted(name for name in plain if name.isupper()),
        sorted(name for name in plain if name[0].isupper() and not name.isupper()),
        ["__version__"],
        sorted(name for name in plain if name[0].islower()),
    ]
    assert headstock.__all__ == [name for group in groups for name in group]
    assert all(hasattr(headstock, name) for name in headstock.__all__)


@pytest.mark.parametrize("module", [headstock, rope])
def test_any_other_name_is_an_attribute_error(module: object) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'RopeParametres'"):
        _ = module.RopeParametres  # type: ignore[attr-defined]  # not there


def test_pydantic_is_loaded_when_a_variant_is_first_used() -> None:
    code = (
        "import sys, headstock, headstock.rope; before = 'pydantic' in sys.modules\n"
        "headstock.RopeParameters; print(before, 'pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("False True", "")
