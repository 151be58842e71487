"""Models of transformers whose masks come from here: the same logits as with their own."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import StaticCache
from transformers.models.gemma3 import modeling_gemma3 as gemma3

from headstock.compat import masking_utils as ours
from tests.support.tiny_transformers import DECODERS, ENCODERS, masks_from, replace_masks, tiny
from tests.support.transformers_masks import caches, config_of, equal, padding_masks

BOTH = [(kind, name) for kind in sorted(DECODERS | ENCODERS) for name in ("eager", "sdpa")]
BOTH.remove(("gemma2", "sdpa"))  # not supported: its softcap would be dropped


def _inputs(padded: bool) -> dict[str, Any]:
    ids = torch.randint(1, 64, (2, 9), generator=torch.Generator().manual_seed(1))
    keep = torch.ones(2, 9, dtype=torch.int64)
    if padded:
        keep[1, :3] = 0
    return {"input_ids": ids, "attention_mask": keep}


def _output(model: Any, **inputs: Any) -> Any:
    with torch.no_grad():
        made = model(**inputs)
    return made.logits if hasattr(made, "logits") else made.last_hidden_state


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize(("kind", "implementation"), BOTH)
def test_a_forward_is_the_same(kind: str, implementation: str, padded: bool) -> None:
    model, inputs = tiny(kind, implementation), _inputs(padded)
    wanted = _output(model, **inputs)
    with masks_from(ours, model) as called:
        found = _output(model, **inputs)
    assert called
    real = inputs["attention_mask"].bool()  # rows of padding see nothing, and mean nothing
    assert torch.equal(found[real], wanted[real])


@pytest.mark.parametrize(("kind", "implementation"), [each for each in BOTH if each[0] in DECODERS])
def test_generation_with_a_growing_cache_is_the_same(kind: str, implementation: str) -> None:
    model, inputs = tiny(kind, implementation), _inputs(padded=True)
    settings: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "output_scores": True}
    wanted = model.generate(**inputs, **settings, return_dict_in_generate=True)
    with masks_from(ours, model) as called:
        found = model.generate(**inputs, **settings, return_dict_in_generate=True)
    assert len(called) >= 6
    assert torch.equal(found.sequences, wanted.sequences)
    assert all(map(torch.equal, found.scores, wanted.scores))


@pytest.mark.parametrize("kind", sorted(DECODERS))
def test_decoding_with_a_static_cache_is_the_same(kind: str) -> None:
    model, inputs = tiny(kind, "eager" if kind == "gemma2" else "sdpa"), _inputs(padded=True)
    wanted = _steps(model, inputs)
    with masks_from(ours, model) as called:
        found = _steps(model, inputs)
    assert called
    assert all(map(torch.equal, found, wanted))


def _steps(model: Any, inputs: dict[str, Any]) -> list[torch.Tensor]:
    """The logits of the last token, after a prompt and six single tokens."""
    cache = StaticCache(model.config, max_cache_len=20)
    ids, keep, logits = inputs["input_ids"], inputs["attention_mask"], []
    for token in range(7):
        logits.append(_output(model, input_ids=ids, attention_mask=keep, past_key_values=cache)[:, -1])
        ids = logits[-1].argmax(-1)[:, None] * 0 + token + 1
        keep = torch.nn.functional.pad(keep, (0, 1), value=1)
    return logits


def test_packed_documents_are_as_if_alone() -> None:
    model = tiny("llama", "sdpa")
    ids = torch.randint(1, 64, (1, 9), generator=torch.Generator().manual_seed(1))
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]])
    with masks_from(ours, model):
        packed = _output(model, input_ids=ids, position_ids=positions, use_cache=False)
        alone = [_output(model, input_ids=part) for part in (ids[:, :4], ids[:, 4:])]
    # Rows of 9 and of 4 keys are summed in another order: a few roundings of float32 in each of two layers.
    torch.testing.assert_close(packed, torch.cat(alone, 1), rtol=1e-5, atol=1e-5)


def test_a_model_compiles_whole_with_its_masks() -> None:
    model, inputs = tiny("mistral", "sdpa"), _inputs(padded=True)
    wanted = _output(model, **inputs)
    with masks_from(ours, model):
        torch._dynamo.reset()
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        found = _output(compiled, **inputs, use_cache=False)
    real = inputs["attention_mask"].bool()
    # The graph has a mask where eager code has none needed, no other difference: the same kernels, the same order.
    torch.testing.assert_close(found[real], wanted[real], rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.data(), st.sampled_from(["eager", "sdpa"]))
def test_a_module_that_puts_masks_together_by_itself_gets_the_same(data: st.DataObject, implementation: str) -> None:
    batch_size, window = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 6))
    call = data.draw(caches(batch_size, window))
    total = call.seen + call.new
    images = torch.tensor([data.draw(st.lists(st.integers(0, 1), min_size=total, max_size=total))] * batch_size)
    said: dict[str, Any] = {
        "config": config_of(implementation, sliding_window=window),
        "inputs_embeds": torch.zeros(batch_size, call.new, 8),
        "attention_mask": data.draw(padding_masks(batch_size, total)),
        "past_key_values": call.cache,
        "position_ids": None,
        "block_sequence_ids": gemma3.get_block_sequence_ids_for_mask(images),
    }
    wanted = gemma3.create_masks_for_vision_model(**said)
    called: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        replace_masks(patch, gemma3, ours, called)
        found = gemma3.create_masks_for_vision_model(**said)
    assert {"create_causal_mask", "_preprocess_mask_arguments", "blockwise_overlay"} <= set(called)
    assert found.keys() == wanted.keys()
    assert all(equal(found[kind], wanted[kind]) for kind in wanted)
