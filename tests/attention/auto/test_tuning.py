"""Measuring gives rows for every entry, in the words by which the model looks for them."""

import pytest

from headstock.attention import AttentionInterface, Cost
from headstock.attention.auto import tuning
from headstock.attention.auto.defaults import CPU
from headstock.attention.auto.grid import TimedCall
from headstock.attention.auto.tuning import _prior, tune
from headstock.errors import UnknownName
from tests.support.attention_functions import additive

CALLS = [TimedCall(1, 2, 2, length, length, 8, mask) for length in (8, 64, 256) for mask in ("none", "window")]


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "calls_for", lambda device, quick: CALLS[: 4 if quick else None])


def test_every_entry_that_does_not_compile_first_is_timed() -> None:
    interface, told = AttentionInterface(), []
    interface["mine"] = additive
    table = tune(interface, seconds=1e-4, progress=lambda done, of, what: told.append((done, of)))
    assert set(table.rows) == {"sdpa", "sdpa masked", "blocked", "eager", f"{additive.__module__}.additive"}
    assert table.samples == {
        "sdpa": 3,
        "sdpa masked": 3,
        "blocked": 3,
        "eager": 6,
        f"{additive.__module__}.additive": 6,
    }
    assert set(table.error) == set(table.rows)
    assert table.scale > 0.0
    assert told[0] == (0, 6)
    assert all(Cost(**row) != Cost() for row in table.rows.values())


def test_one_entry_alone_may_be_timed() -> None:
    assert set(tune(AttentionInterface(), only=("eager",), seconds=1e-4).rows) == {"eager"}
    with pytest.raises(UnknownName, match="got 'eagle'"):
        tune(AttentionInterface(), only=("eagle",))


def test_too_few_calls_make_no_row() -> None:
    assert set(tune(AttentionInterface(), quick=True, only=("sdpa",), seconds=1e-4).rows) == set()


def test_a_row_departs_from_the_one_that_holds_already() -> None:
    assert _prior(CPU.rows, "sdpa masked half training") == CPU.rows["sdpa"]
    assert _prior(CPU.rows, "sdpa training") == CPU.rows["sdpa training"]
    assert _prior(CPU.rows, "somebody.else training") is None
    flex = _prior(CPU.rows, "flex_attention")
    assert flex is not None
    assert flex.first_call == 0.0
