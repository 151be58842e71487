"""The typed dict has transformers' keys and is a plain dict."""

from typing import get_type_hints

from transformers import modeling_rope_utils as theirs

from headstock.compat.modeling_rope_utils import RopeParameters
from headstock.rope import RopeParameters as StrictParameters


def test_it_has_the_keys_and_types_of_transformers() -> None:
    assert get_type_hints(RopeParameters) == get_type_hints(theirs.RopeParameters)
    assert RopeParameters.__total__ is theirs.RopeParameters.__total__ is False


def test_it_makes_a_dict_by_keywords_that_a_config_may_hold() -> None:
    parameters = RopeParameters(rope_type="linear", factor=2.0, rope_theta=5e5)
    assert parameters == {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5}
    assert StrictParameters.from_config({"head_dim": 8, "rope_parameters": parameters}).rope_theta == 5e5
