"""Every name of transformers' module, with its parameters."""

import inspect
import subprocess
import sys
from typing import Any

import pytest
from transformers import masking_utils as theirs

from headstock.compat import masking_utils as ours

NAMES = sorted(
    name
    for name, each in vars(theirs).items()
    if not name.startswith("_") and getattr(each, "__module__", None) == theirs.__name__
)
#: What two other names of theirs are, and what models import although its name is private.
FURTHER = ["ALL_MASK_ATTENTION_FUNCTIONS", "LAYER_PATTERN_TO_MASK_FUNCTION_MAPPING", "_preprocess_mask_arguments"]
FUNCTIONS = [name for name in NAMES if inspect.isfunction(getattr(theirs, name))] + ["_preprocess_mask_arguments"]


def test_the_list_is_theirs() -> None:
    assert {"create_causal_mask", "sdpa_mask", "AttentionMaskInterface", "and_masks"} <= set(NAMES)
    assert len(FUNCTIONS) >= 30


@pytest.mark.parametrize("name", NAMES + FURTHER)
def test_every_name_is_there(name: str) -> None:
    assert name in ours.__all__
    assert hasattr(ours, name)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_is_there_in_its_place_with_its_default(name: str) -> None:
    wanted = list(inspect.signature(getattr(theirs, name)).parameters.values())
    found = list(inspect.signature(getattr(ours, name)).parameters.values())
    further = [each.name for each in found if each.name not in {every.name for every in wanted}]
    assert further in ([], ["mask_interface"])
    kept = [each for each in found if each.name not in further]
    assert [(each.name, each.kind, _default(each)) for each in kept] == [
        (each.name, each.kind, _default(each)) for each in wanted
    ]


def _default(parameter: inspect.Parameter) -> Any:
    if parameter.name == "mask_function" and parameter.default is not inspect.Parameter.empty:
        return "causal" if parameter.default in {ours.causal_mask_function, theirs.causal_mask_function} else "another"
    return parameter.default


def test_the_kinds_of_layers_are_theirs() -> None:
    mapping = ours.LAYER_PATTERN_TO_MASK_FUNCTION_MAPPING
    assert set(mapping) == set(theirs.LAYER_PATTERN_TO_MASK_FUNCTION_MAPPING)
    for kind, function in theirs.LAYER_PATTERN_TO_MASK_FUNCTION_MAPPING.items():
        if kind != "hybrid_sliding":
            assert _named(mapping[kind]) == _named(function)


def test_the_hybrid_sliding_kind_has_its_window() -> None:
    kind = "hybrid_sliding"
    assert _named(theirs.LAYER_PATTERN_TO_MASK_FUNCTION_MAPPING[kind])["sliding_attention"] == "create_causal_mask"
    assert (
        _named(ours.LAYER_PATTERN_TO_MASK_FUNCTION_MAPPING[kind])["sliding_attention"]
        == "create_sliding_window_causal_mask"
    )


def _named(function: Any) -> Any:
    if isinstance(function, dict):
        return {kind: _named(each) for kind, each in function.items()}
    if hasattr(function, "func"):
        return (function.func.__name__, function.keywords)
    return function.__name__


def test_the_interface_has_their_keys() -> None:
    assert set(ours.AttentionMaskInterface()) == set(theirs.AttentionMaskInterface())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_documented(name: str) -> None:
    assert (getattr(ours, name).__doc__ or "").strip()


def test_importing_it_loads_neither_transformers_nor_flex_attention() -> None:
    code = (
        "import sys, headstock.compat.masking_utils; "
        "print([each for each in ('transformers', 'torch.nn.attention.flex_attention', 'torch._dynamo') "
        "if each in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
