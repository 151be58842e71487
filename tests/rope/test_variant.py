"""What a module knows of a function: what it declares, parameters that it serves, read once."""

import gc
import weakref
from typing import Any

import pytest
from torch import nn

from headstock.registry import declare
from headstock.rope import ROPE_INIT_FUNCTIONS, RopeParameters
from headstock.rope.variant import ask, known_variant, variant_of
from tests.support.rotary import growing, grows_by_row, of_half, rotary_config

CONFIG = rotary_config("yarn")
PARAMETERS = RopeParameters.from_config(CONFIG)


@pytest.mark.parametrize(
    ("function", "depends", "rows"),
    [
        (ROPE_INIT_FUNCTIONS["yarn"], False, False),
        (growing, True, False),
        (grows_by_row, True, True),
        (declare(lambda config, device=None, seq_len=None, layer_type=None: None, features=["seq_len"]), True, False),
        (declare(lambda config, device=None, seq_len=None, layer_type=None: None, features=[]), False, False),
    ],
)
def test_a_function_says_what_it_depends_on(function: Any, depends: bool, rows: bool) -> None:
    found = variant_of(function, CONFIG, None, PARAMETERS)
    assert (found.depends_on_length, found.takes_rows) == (depends, rows)


def test_frequencies_are_the_functions() -> None:
    assert variant_of(ROPE_INIT_FUNCTIONS["yarn"], CONFIG, None, PARAMETERS).parameters is PARAMETERS
    inv_freq, factor = variant_of(of_half, CONFIG, None, PARAMETERS).parameters.frequencies(9)
    assert (inv_freq.tolist(), factor) == ([0.5] * 4, 2.0)


def test_a_configuration_is_read_once_for_each_function() -> None:
    owner, yarn = nn.Module(), ROPE_INIT_FUNCTIONS["yarn"]
    first = known_variant(owner, yarn, CONFIG, None, ROPE_INIT_FUNCTIONS)
    assert known_variant(owner, yarn, CONFIG, None, ROPE_INIT_FUNCTIONS) is first
    assert known_variant(nn.Module(), yarn, CONFIG, None, ROPE_INIT_FUNCTIONS) is not first
    changed = known_variant(owner, of_half, CONFIG, None, ROPE_INIT_FUNCTIONS)
    assert changed.function is of_half
    again = known_variant(owner, yarn, rotary_config("yarn", rope_theta=1000.0), None, ROPE_INIT_FUNCTIONS)
    assert not again.parameters.frequencies()[0].equal(first.parameters.frequencies()[0])


def test_an_owner_is_not_kept_alive() -> None:
    owner = nn.Module()
    known_variant(owner, ROPE_INIT_FUNCTIONS["yarn"], CONFIG, None, ROPE_INIT_FUNCTIONS)
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None


def test_outside_of_a_graph_a_question_is_a_call() -> None:
    assert ask(3, lambda owner, detail: (owner, detail), "detail") == (3, "detail")
