"""The shared table of attention functions, and one model's overlay over it."""

import copy
import pickle

import pytest
import torch

from headstock.attention import ALL_ATTENTION_FUNCTIONS, ATTENTION_FUNCTIONS, AttentionInterface, attend
from headstock.attention.blocked import blocked
from headstock.attention.eager import eager
from headstock.attention.flash import flash_attention_2, flash_attention_3, flash_attention_4
from headstock.attention.flex import flex_attention
from headstock.attention.sdpa import sdpa
from headstock.attention.varlen import varlen
from headstock.errors import DuplicateName
from tests.support.attention_functions import additive

QUERY, KEY, VALUE = torch.randn(3, 1, 2, 5, 8)


def test_the_built_in_functions_are_there() -> None:
    assert dict(ATTENTION_FUNCTIONS) == {
        "blocked": blocked,
        "eager": eager,
        "flash_attention_2": flash_attention_2,
        "flash_attention_3": flash_attention_3,
        "flash_attention_4": flash_attention_4,
        "flex_attention": flex_attention,
        "sdpa": sdpa,
        "varlen": varlen,
    }
    assert ALL_ATTENTION_FUNCTIONS.parent is ATTENTION_FUNCTIONS


def test_a_taken_name_is_refused_telling_where_it_lives() -> None:
    with pytest.raises(
        DuplicateName, match=r"attention function must have a name of its own, got 'sdpa', which is head"
    ):
        AttentionInterface.register("sdpa", additive)


def test_descriptions_tell_what_is_declared() -> None:
    told = str(AttentionInterface().describe("sdpa"))
    assert "attention function 'sdpa': headstock.attention.sdpa.sdpa" in told
    assert "causal_or_dense" in told


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda interface: pickle.loads(pickle.dumps(interface))])
def test_a_copied_interface_runs_what_the_original_runs(copied: object) -> None:
    assert callable(copied)
    interface = AttentionInterface()
    interface["sdpa"] = additive
    made = copied(interface)
    expected = attend(QUERY, KEY, VALUE, implementation="sdpa", interface=interface)
    assert torch.equal(attend(QUERY, KEY, VALUE, implementation="sdpa", interface=made), expected)
    del interface["sdpa"]
    assert made["sdpa"] is additive
