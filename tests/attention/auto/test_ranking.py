"""Every entry of a table is a candidate or is rejected with its reasons."""

from importlib.metadata import EntryPoint
from typing import Any

import pytest
import torch

from headstock.attention import AttentionInterface, contract_of
from headstock.attention.auto.defaults import CPU
from headstock.attention.auto.figures import ALL
from headstock.attention.auto.ranking import entries_of, objections, ranked, unknown_keywords
from headstock.attention.choice import Chosen
from headstock.attention.limits import Limits
from headstock.attention.request import Request
from headstock.attention.situation import Situation
from headstock.errors import UnknownName
from headstock.masks import Geometry, causal, prepare
from headstock.registry import Registry, declare
from tests.support.attention_functions import additive, dense
from tests.support.auto import function_like

CALL = Situation(torch.device("cpu"), torch.float32, 1, 2, 2, 16, 16, 8, 8)
PLAIN = Request(0.5)


def test_candidates_come_by_their_cost() -> None:
    found = ranked(AttentionInterface(), CPU, CALL, PLAIN, ALL, masked=False)
    costs = [each.cost for each in found.candidates]
    assert costs == sorted(costs)
    assert found.candidates[0].chosen.name == "sdpa"
    names = [each.chosen.name for each in found.candidates]
    assert {*names, *found.rejected} == set(AttentionInterface())
    assert not {*names} & {*found.rejected}


def test_each_other_has_its_reasons() -> None:
    found = ranked(AttentionInterface(), CPU, CALL, PLAIN._replace(weights=True, softcap=1.0), ALL, masked=False)
    assert [each.chosen.name for each in found.candidates] == ["eager"]
    assert found.rejected["sdpa"] == ("does not honour softcap", "does not honour weights")
    assert found.rejected["blocked"] == ("does not honour weights",)


def test_a_candidate_is_sure_where_nothing_else_could_speak_against_it() -> None:
    def never(situation: Any, request: Any) -> Any:
        yield "is never the one"

    table = {
        "further": declare(function_like(additive), limits=Limits(further=never)),
        "window": declare(function_like(additive), mask="window"),
        "dense": declare(function_like(dense), mask="dense"),
        "additive": additive,
    }
    told = {each.chosen.name: each.is_sure for each in ranked(table, CPU, CALL, PLAIN, ALL, masked=True).candidates}
    assert told == {"further": False, "window": False, "dense": True, "additive": True}
    floating = ALL._replace(tensor="floating")
    told = {
        each.chosen.name: each.is_sure for each in ranked(table, CPU, CALL, PLAIN, floating, masked=True).candidates
    }
    assert told["dense"] is False
    (candidate,) = ranked({"further": table["further"]}, CPU, CALL, PLAIN, ALL, masked=False).candidates
    assert objections(candidate, CALL, PLAIN, None) == ["is never the one"]


def test_a_refused_form_is_tried_once_and_a_made_one_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    (candidate,) = ranked(
        {"window": declare(function_like(additive), mask="window")}, CPU, CALL, PLAIN, ALL, masked=True
    ).candidates
    refused = prepare(torch.rand(16, 16) < 0.5, Geometry(1, 16, 16))
    first = objections(candidate, CALL, PLAIN, refused)
    assert len(first) == 1
    assert first[0].startswith("cannot be given the mask: a mask must be written as patterns")
    monkeypatch.setattr(type(refused), "lower", None)  # what would be called to try again
    assert objections(candidate, CALL, PLAIN, refused) == first


def test_transport_may_be_unknown() -> None:
    assert unknown_keywords(contract_of(additive), ("position_ids", "scaling")) == ()
    assert unknown_keywords(contract_of(additive), ("indices",)) == ("does not know the keyword 'indices'",)


def test_plug_ins_are_not_loaded_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(self: EntryPoint) -> Any:
        loaded.append(self.name)
        return additive

    monkeypatch.setattr(EntryPoint, "load", load)
    point = EntryPoint("offered", "somewhere:function", "headstock.test")
    monkeypatch.setattr("headstock.registry.plugins.entry_points", lambda group: [point])
    table: Registry[Any] = Registry("function", builtins={"own": dense}, entry_points="headstock.test")
    assert entries_of(table) == {
        "offered": "is a plug-in that is not loaded; name it once, and auto knows it",
        "own": Chosen("own", dense, contract_of(dense)),
    }
    assert loaded == []
    assert table["offered"] is additive
    assert entries_of(table)["offered"] == Chosen("offered", additive, contract_of(additive))


def test_an_entry_that_cannot_be_read_is_rejected_with_the_error() -> None:
    class Unreadable:
        @property
        def __signature__(self) -> Any:
            raise ValueError

        def __call__(self, *arguments: Any) -> Any: ...

    (told,) = entries_of({"odd": Unreadable()}).values()
    assert isinstance(told, str)
    assert told.startswith("an attention function must have a readable signature")


def test_a_name_that_is_gone_when_it_is_looked_up_is_left_out() -> None:
    class Vanishing(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            raise UnknownName(name)

    assert entries_of(Vanishing(gone=additive)) == {}


def test_masks_of_structure_alone_have_every_dense_form() -> None:
    (candidate,) = ranked({"a": additive}, CPU, CALL, PLAIN, ALL, masked=True).candidates
    assert objections(candidate, CALL, PLAIN, prepare(causal(), Geometry(1, 16, 16))) == []
