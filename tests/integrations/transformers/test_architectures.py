"""Which models look their attention function up."""

from typing import Any

import pytest
import transformers

from headstock.integrations.transformers import uses_attention_interface

# The architectures of the causal task that take any name and run attention of their own.
DEAF = (
    *("BigBirdForCausalLM", "BloomForCausalLM", "CpmAntForCausalLM", "GPTNeoXJapaneseForCausalLM"),
    *("MegatronBertForCausalLM", "MvpForCausalLM", "OpenAIGPTLMHeadModel", "ProphetNetForCausalLM"),
    *("RemBertForCausalLM", "RoFormerForCausalLM", "TrOCRForCausalLM", "XGLMForCausalLM", "XLMWithLMHeadModel"),
    *("XLNetLMHeadModel", "FalconForCausalLM"),
)
HEARING = ("LlamaForCausalLM", "BertForMaskedLM", "T5ForConditionalGeneration", "WhisperForConditionalGeneration")


@pytest.mark.parametrize("name", DEAF)
def test_attention_of_its_own_is_seen(name: str) -> None:
    assert not uses_attention_interface(getattr(transformers, name))


@pytest.mark.parametrize("name", HEARING)
def test_the_interface_is_seen(name: str) -> None:
    assert uses_attention_interface(getattr(transformers, name))


def test_a_class_whose_source_is_not_there_is_taken_to_use_it() -> None:
    made: Any = type("Made", (), {"__module__": "nowhere"})
    assert uses_attention_interface(made)
