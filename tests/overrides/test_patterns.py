import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headstock.errors import InvalidConfig
from headstock.overrides import LayerPattern

WORDS = st.sampled_from(["model", "layers", "self_attn", "mlp", "h", "0", "1", "7", "10", "12"])
NAMES = st.lists(WORDS, min_size=1, max_size=5).map(".".join)
NUMBERS = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 3)).map(lambda each: (each[0], each[0] + each[1])),
    min_size=1,
    max_size=3,
).map(lambda ranges: ",".join(f"{a}-{b}" if a != b else f"{a}" for a, b in ranges))
PARTS = st.one_of(WORDS, NUMBERS, st.sampled_from(["*", "**", "l*", "?", "*attn", "m?p", "layer?"]))
PATTERNS = st.lists(PARTS, min_size=1, max_size=4).map(".".join)


def as_regex(pattern: str) -> re.Pattern[str]:
    """The same in another language: alternatives for numbers, groups of parts for `**`."""
    parts = []
    for part in pattern.split("."):
        if part == "**":
            parts.append(r"(?:[^.]+\.)*")
        elif re.fullmatch(r"[\d,-]+", part):
            spans = [each.partition("-") for each in part.split(",")]
            numbers = {str(n) for a, _, b in spans for n in range(int(a), int(b or a) + 1)}
            parts.append(f"(?:{'|'.join(sorted(numbers))})\\.")
        else:
            parts.append(re.escape(part).replace(r"\*", "[^.]*").replace(r"\?", "[^.]") + r"\.")
    return re.compile(r"(?:[^.]+\.)*" + "".join(parts))


@given(PATTERNS, NAMES)
@example("**.**", "model")
@example("layers.0-3,7", "model.layers.7")
@example("**.0", "0")
def test_a_pattern_matches_what_the_regular_expression_matches(pattern: str, name: str) -> None:
    assert LayerPattern(pattern).matches(name) == (as_regex(pattern).fullmatch(f"{name}.") is not None)


@given(PATTERNS, st.lists(NAMES, max_size=6))
def test_a_number_is_missing_where_it_alone_would_match_nothing(pattern: str, names: list[str]) -> None:
    parts = pattern.split(".")
    wanted = set()
    for place, part in enumerate(parts):
        if re.fullmatch(r"[\d,-]+", part):
            for a, _, b in (each.partition("-") for each in part.split(",")):
                for number in range(int(a), int(b or a) + 1):
                    alone = LayerPattern(".".join([*parts[:place], str(number), *parts[place + 1 :]]))
                    if not any(alone.matches(name) for name in names):
                        wanted.add(number)
    assert LayerPattern(pattern).missing(names) == sorted(wanted)


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("layers.0-3", ["layers.0", "model.layers.3"], ["layers.4", "layers.0.mlp", "layers", "xlayers.0"]),
        ("*.self_attn", ["model.layers.0.self_attn"], ["self_attn", "layers.0.self_attn.q_proj"]),
        ("self_attn", ["self_attn", "model.layers.0.self_attn"], ["cross_self_attn"]),
        ("encoder.**.attn", ["encoder.attn", "m.encoder.layers.2.attn"], ["decoder.layers.2.attn"]),
        ("layers.1", ["layers.1"], ["layers.11", "layers.01x"]),
        ("layers.01", ["layers.1"], ["layers.11"]),
        ("block-1", ["block-1"], ["block.1"]),
    ],
)
def test_what_matches(pattern: str, matching: list[str], others: list[str]) -> None:
    found = LayerPattern(pattern)
    assert [name for name in [*matching, *others] if found.matches(name)] == matching
    assert str(found) == pattern


def test_patterns_are_equal_where_their_texts_are() -> None:
    assert LayerPattern("layers.0") == LayerPattern("layers.0") != LayerPattern("layers.1")
    assert len({LayerPattern("layers.0"), LayerPattern("layers.0")}) == 1


@pytest.mark.parametrize("text", ["", "a..b", "a b", "layers.0-", "-1", "layers.[0]", "a/b", "layers.0-3-5", "0,"])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(InvalidConfig, match=r"a layer pattern must join names, numbers \(0-3, 0-3,7\)"):
        LayerPattern(text)


@pytest.mark.parametrize("text", ["layers.3-1", "layers.0-100000", "0-99999999999999999999"])
def test_a_range_that_runs_backwards_or_too_far_is_refused(text: str) -> None:
    with pytest.raises(InvalidConfig, match="must run upwards over less than 100000 numbers"):
        LayerPattern(text)


def test_a_pattern_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="must have at most 1000 characters, got 1001"):
        LayerPattern("a" * 1001)


def test_many_repeated_stars_take_no_long_time() -> None:
    assert not LayerPattern(".".join(["**"] * 300 + ["x"])).matches(".".join(["a"] * 30))
