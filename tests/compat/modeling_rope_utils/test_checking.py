"""A set is checked as far as the configuration says what it is checked against."""

import pytest

from headstock.compat.modeling_rope_utils.checking import check_set
from headstock.errors import InvalidConfig
from headstock.rope import RopeSource

UNSIZED = RopeSource("default", {}, None, 8192)


def test_values_are_checked_without_a_head_size_where_they_do_not_depend_on_it() -> None:
    with pytest.raises(InvalidConfig, match="factor"):
        check_set(UNSIZED, {"rope_type": "linear", "factor": 0.5}, None)


def test_values_that_depend_on_an_unknown_head_size_are_left() -> None:
    check_set(UNSIZED, {"rope_type": "default", "mrope_section": [8, 12, 12]}, None)
    with pytest.raises(InvalidConfig, match="mrope_section"):
        check_set(RopeSource("default", {}, 32, None), {"rope_type": "default", "mrope_section": [8, 12, 12]}, None)
