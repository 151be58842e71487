"""Every public name of transformers' module is there, and none needs transformers."""

import subprocess
import sys

import headstock.rope
from headstock.compat import modeling_rope_utils

NAMES = [
    "ROPE_INIT_FUNCTIONS",
    "RopeParameters",
    "RotaryEmbeddingConfigMixin",
    "dynamic_rope_update",
    "rope_config_validation",
]


def test_the_names_of_transformers_are_exported() -> None:
    assert modeling_rope_utils.__all__ == NAMES
    from transformers import modeling_rope_utils as theirs

    public = {name for name, value in vars(theirs).items() if getattr(value, "__module__", "") == theirs.__name__}
    assert {name for name in public if not name.startswith("_")} | {"ROPE_INIT_FUNCTIONS"} == set(NAMES)


def test_the_decorator_is_headstocks() -> None:
    assert modeling_rope_utils.dynamic_rope_update is headstock.rope.dynamic_rope_update


def test_the_module_does_without_transformers() -> None:
    code = "import sys; sys.modules['transformers'] = None; import headstock.compat.modeling_rope_utils"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
