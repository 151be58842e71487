"""The table of variants under transformers' name has the laws of the dict that it is there."""

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from transformers import modeling_rope_utils as theirs

from headstock.compat.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from headstock.errors import InvalidComponent, UnknownName
from headstock.rope import ROPE_VARIANTS, RopeInterface, RopeParameters


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Leave the shared table as it was."""
    shared = dict(ROPE_VARIANTS)
    yield
    for name in set(ROPE_VARIANTS) - set(shared):
        ROPE_VARIANTS.unregister(name)
    for name, function in shared.items():
        ROPE_VARIANTS.register(name, function, replace=True)


def mine(
    config: Any, device: Any = None, seq_len: Any = None, layer_type: str | None = None
) -> tuple[torch.Tensor, float]:
    """A variant."""
    return torch.tensor([0.25, 0.5], device=device), 2.0


def test_every_name_of_transformers_is_there() -> None:
    assert set(theirs.ROPE_INIT_FUNCTIONS) - set(ROPE_INIT_FUNCTIONS) == set()
    assert "default" in ROPE_INIT_FUNCTIONS  # that transformers 5 took away


@pytest.mark.parametrize("table", [ROPE_INIT_FUNCTIONS, dict(theirs.ROPE_INIT_FUNCTIONS)], ids=["ours", "theirs"])
def test_it_is_written_to_as_a_dict(table: Any) -> None:
    count = len(table)
    table["mine"] = mine
    assert table["mine"] is table.get("mine") is mine
    table["mine"] = len_of = _another  # assigning replaces
    assert (table["mine"], len(table)) == (len_of, count + 1)
    table.update(other=mine)
    assert table.setdefault("other", _another) is mine
    assert table.popitem() == ("other", mine)
    assert table.pop("mine") is _another
    assert table.pop("mine", None) is None
    with pytest.raises(KeyError, match="mine"):
        table.pop("mine")
    with pytest.raises(KeyError, match="mine"):
        del table["mine"]
    del table["linear"]
    assert "linear" not in table
    table.clear()
    assert len(table) == 0
    with pytest.raises(KeyError):
        table.popitem()


def _another(config: Any, device: Any = None, seq_len: Any = None, layer_type: str | None = None) -> Any:
    """Another variant."""


def test_an_empty_table_has_nothing_to_pop() -> None:
    ROPE_INIT_FUNCTIONS.clear()
    with pytest.raises(UnknownName, match=r"^a table of RoPE variants must have an entry to pop, got none$"):
        ROPE_INIT_FUNCTIONS.popitem()


def test_what_is_assigned_is_seen_by_every_table() -> None:
    local = RopeInterface()
    ROPE_INIT_FUNCTIONS["mine"] = mine
    assert local["mine"] is mine
    read = RopeParameters.from_config({"head_dim": 4, "rope_parameters": {"rope_type": "mine"}})
    assert read.frequencies()[1] == 2.0


def test_what_is_no_variant_is_refused() -> None:
    with pytest.raises(InvalidComponent, match=r"must be a function \(config, device=None"):
        ROPE_INIT_FUNCTIONS["mine"] = lambda config: None  # type: ignore[assignment]


@pytest.mark.parametrize("made", [lambda table: table.copy(), copy.copy, lambda table: table | {"mine": mine}])
def test_copies_and_unions_are_dicts_of_their_own(made: Callable[[Any], Any]) -> None:
    before = dict(ROPE_VARIANTS)
    own = made(ROPE_INIT_FUNCTIONS)
    own["linear"] = own["mine"] = mine
    assert type(own) is dict
    assert set(own) == {*before, "mine"}
    assert dict(ROPE_VARIANTS) == before


def test_an_update_by_union_is_shared() -> None:
    table = ROPE_INIT_FUNCTIONS
    table |= {"mine": mine}
    assert ROPE_VARIANTS["mine"] is mine


def test_a_union_is_one_of_mappings() -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        ROPE_INIT_FUNCTIONS | 3


def test_a_deep_copy_is_the_table_and_it_tells_its_names() -> None:
    assert copy.deepcopy(ROPE_INIT_FUNCTIONS) is ROPE_INIT_FUNCTIONS
    assert "yarn" in repr(ROPE_INIT_FUNCTIONS)


def test_a_scope_shadows_an_entry_for_its_time() -> None:
    with ROPE_INIT_FUNCTIONS.override(linear=mine):
        assert ROPE_INIT_FUNCTIONS["linear"] is mine
    assert ROPE_INIT_FUNCTIONS["linear"] is ROPE_VARIANTS["linear"]


def test_it_pickles_by_name() -> None:
    assert pickle.loads(pickle.dumps(ROPE_INIT_FUNCTIONS)) is ROPE_INIT_FUNCTIONS
