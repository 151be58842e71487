"""The terms of a call are what it computes, and a row is found by the nearest words."""

from dataclasses import replace

import pytest
import torch

from headstock.attention import ALL_ATTENTION_FUNCTIONS, AttentionInterface, Cost, contract_of
from headstock.attention.auto.defaults import CPU
from headstock.attention.auto.figures import ALL, Figures
from headstock.attention.auto.model import (
    Profile,
    compiles_first,
    label_of,
    microseconds,
    row_of,
    terms_of,
    way_of,
)
from headstock.attention.request import Request
from headstock.attention.situation import Situation
from headstock.registry import declare
from tests.support.attention_functions import additive
from tests.support.auto import function_like

CALL = Situation(torch.device("cpu"), torch.float32, 2, 8, 4, 256, 512, 64, 32)
SOME = Figures("some", 0.25)
PLAIN = Request(0.125)


def test_terms_of_a_full_call() -> None:
    terms = terms_of(CALL, "causal_or_dense", ALL)
    pairs = 2 * 8 * 256 * 512
    assert terms.launch == 1.0
    assert terms.products == pytest.approx(pairs * 96 / 1e9)
    assert terms.scores == pytest.approx(pairs / 1e6)
    assert terms.traffic == pytest.approx(4 * 96 * 2 * (8 * 256 + 4 * 512) / 1e6)
    assert terms.copied == pytest.approx(4 * 96 * 2 * 8 * 512 / 1e6)
    assert terms[5:9] == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(("representation", "share"), [("dense", 1.0), ("causal_or_blocks", 0.25), ("varlen", 0.25)])
def test_blocks_compute_their_share(representation: str, share: float) -> None:
    assert terms_of(CALL, representation, SOME).scores == pytest.approx(share * 2 * 8 * 256 * 512 / 1e6)


def test_a_triangle_is_half_for_those_who_are_told() -> None:
    triangle = Figures("causal", 0.5)
    assert terms_of(CALL, "causal_or_dense", triangle).mask == 0.0
    assert terms_of(CALL, "causal_or_dense", triangle).scores == terms_of(CALL, "dense", triangle).scores / 2
    assert terms_of(CALL, "dense", triangle).mask == pytest.approx(256 * 512 / 1e6)


def test_what_is_kept_is_not_made() -> None:
    for representation in ("dense", "causal_or_blocks"):
        fresh, kept = (terms_of(CALL, representation, SOME._replace(is_kept=each)) for each in (False, True))
        assert (fresh.making, kept.making, kept.made) == (1.0, 0.0, 0.0)
        assert fresh._replace(making=0.0, made=0.0) == kept


def test_a_batch_that_is_told_apart_has_a_mask_and_a_plan_for_each_row() -> None:
    apart = SOME._replace(rows=0)
    assert terms_of(CALL, "dense", apart).mask == 2 * terms_of(CALL, "dense", SOME).mask
    assert terms_of(CALL, "causal_or_blocks", apart).rows == 2 * terms_of(CALL, "causal_or_blocks", SOME).rows


def test_work_is_divided_among_threads() -> None:
    one, four = (terms_of(CALL, "dense", SOME, threads=each) for each in (1, 4))
    assert (four.products, four.scores, four.launch) == (one.products / 4, one.scores / 4, 1.0)


def test_nothing_compiles_inside_of_compiled_code() -> None:
    assert terms_of(CALL._replace(is_compiling=True), "dense", ALL).first_call == 0.0


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("sdpa", "unfused"), "sdpa unfused"),
        (("sdpa", "masked"), "sdpa"),
        (("other", ""), None),
    ],
)
def test_the_nearest_row_is_taken(words: tuple[str, str], found: str | None) -> None:
    profile = Profile({name: Cost(launch=float(len(name))) for name in ("sdpa", "sdpa unfused")}, Cost(), 0.0, 0.0)
    expected = profile.neutral if found is None else profile.rows[found]
    assert row_of(profile, words[0], "mine", words[1], CALL) == expected


def test_training_without_a_row_of_its_own_is_about_three_times_the_work() -> None:
    profile = Profile({"mine": Cost(launch=10.0, products=1.0, mask=2.0, first_call=5.0)}, Cost(), 0.0, 0.0)
    found = row_of(profile, "mine", "mine", "", CALL._replace(needs_gradient=True))
    assert found == Cost(launch=25.0, products=3.0, mask=2.0, first_call=5.0)
    own = replace(profile, rows={**profile.rows, "mine training": Cost(launch=1.0)})
    assert row_of(own, "mine", "mine", "", CALL._replace(needs_gradient=True)) == Cost(launch=1.0)


def test_half_precision_has_rows_of_its_own() -> None:
    profile = Profile({"a": Cost(launch=1.0), "a half": Cost(launch=2.0)}, Cost(), 0.0, 0.0)
    assert row_of(profile, "a", "a", "", CALL).launch == 1.0
    assert row_of(profile, "a", "a", "", CALL._replace(dtype=torch.bfloat16)).launch == 2.0


def test_a_name_stands_in_for_a_function_that_nobody_measured() -> None:
    contract = contract_of(function_like(additive))
    assert label_of("sdpa", contract_of(AttentionInterface()["sdpa"])) == "sdpa"
    assert label_of("other", contract_of(AttentionInterface()["sdpa"])) == "sdpa"
    assert label_of("sdpa", contract).endswith("another")
    assert row_of(CPU, label_of("sdpa", contract), "sdpa", "", CALL) == CPU.rows["sdpa"]
    assert row_of(CPU, label_of("mine", contract), "mine", "", CALL) == CPU.neutral


def test_a_declared_cost_holds() -> None:
    contract = contract_of(declare(function_like(additive), cost=Cost(launch=7.0)))
    assert microseconds(CPU, "sdpa", contract, CALL, PLAIN, ALL) == 7.0


@pytest.mark.parametrize(
    ("label", "change", "request_", "figures", "way"),
    [
        ("sdpa", {}, PLAIN, ALL, ""),
        ("sdpa", {}, PLAIN, SOME, "masked"),
        ("sdpa", {"value_dim": 32}, PLAIN, ALL, "unfused"),
        ("sdpa", {"is_transformed": True}, PLAIN, ALL, "unfused"),
        ("sdpa", {}, PLAIN._replace(dropout=0.1), ALL, "unfused"),
        ("sdpa", {}, PLAIN._replace(bias=torch.ones(1, requires_grad=True)), ALL, "unfused"),
        ("sdpa", {}, PLAIN._replace(bias=torch.ones(1)), ALL, "masked"),
        ("blocked", {}, PLAIN, ALL, "plain"),
        ("blocked", {}, PLAIN._replace(dropout=0.1), ALL, "plain unfused"),
        ("blocked", {}, PLAIN._replace(log_sum_exp=True), ALL, ""),
        ("blocked", {}, PLAIN, SOME, ""),
        ("blocked", {}, PLAIN._replace(softcap=1.0), SOME, "unfused"),
        ("eager", {}, PLAIN._replace(softcap=1.0), SOME, ""),
    ],
)
def test_ways_through_headstocks_own_functions(
    label: str, change: dict[str, object], request_: Request, figures: Figures, way: str
) -> None:
    situation = CALL._replace(**{"value_dim": 64, **change})  # type: ignore[arg-type]
    assert way_of(label, situation, request_, figures) == way


def test_flex_attention_compiles_at_its_first_call_on_cpus() -> None:
    told = {
        name: compiles_first(CPU, name, contract_of(ALL_ATTENTION_FUNCTIONS[name]), CALL)
        for name in ("sdpa", "flex_attention")
    }
    assert told == {"sdpa": False, "flex_attention": True}
