import pytest

from headstock.registry import unknown_name


@pytest.mark.parametrize(
    ("got", "valid", "text"),
    [
        ("spda", ["sdpa", "eager"], "function must be one of 'eager', 'sdpa', got 'spda'; did you mean 'sdpa'?"),
        ("SDPA", ["sdpa", "eager"], "function must be one of 'eager', 'sdpa', got 'SDPA'; did you mean 'sdpa'?"),
        ("flash", ["sdpa", "eager"], "function must be one of 'eager', 'sdpa', got 'flash'; register it first"),
        (None, ["sdpa"], "function must be one of 'sdpa', got None; register it first"),
        ("x", [], "function must be one of the registered names (there are none), got 'x'; register it first"),
    ],
)
def test_the_text_lists_what_is_valid_and_what_was_probably_meant(got: object, valid: list[str], text: str) -> None:
    assert unknown_name("function", got, valid) == text
