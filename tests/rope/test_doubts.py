import warnings

import pytest

from headstock.errors import ConfigWarning, InvalidConfig
from headstock.rope.doubts import doubt, unknown_key


def test_an_unknown_key_is_told_with_the_nearest_one() -> None:
    assert unknown_key("yarn", "facotr", 4, ["factor", "beta_fast"]) == (
        "facotr must be a field that rope_type 'yarn' has, got 4; did you mean 'factor'?"
    )
    assert unknown_key("yarn", "xyz", None, ["factor"]) == (
        "xyz must be a field that rope_type 'yarn' has, got None; it changes nothing; take it away"
    )


def test_each_sentence_is_a_warning_of_its_own() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        doubt(["one", "two"], strict=False)
    assert [(str(each.message), each.category) for each in caught] == [("one", ConfigWarning), ("two", ConfigWarning)]


def test_all_sentences_are_one_error_when_strict() -> None:
    with pytest.raises(InvalidConfig, match=r"^one; two$"):
        doubt(["one", "two"], strict=True)


def test_no_sentence_is_nothing() -> None:
    doubt([], strict=True)
    doubt([], strict=False)
