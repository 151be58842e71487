import asyncio
import copy
import threading
import time
import timeit
from typing import Any

import pytest
import torch
from torch import Tensor

from headstock.errors import UnsupportedFeature
from headstock.overrides import Overrides, apply, overriding, settings_for
from tests.support.llama import limit, tiny
from tests.support.overrides import everything, in_layers, logits, overrides

TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]])


def window(size: int) -> Overrides:
    return overrides(mask={"join": f"sliding_window({size})"})


def test_a_block_holds_until_its_end_and_leaves_nothing_behind() -> None:
    model = tiny()
    before, plain = everything(model), logits(model, TOKENS)
    with apply(model, window(3)):
        expected = logits(model, TOKENS)
    with overriding(model, window(3)):
        assert torch.equal(logits(model, TOKENS), expected)
    assert torch.equal(logits(model, TOKENS), plain)
    assert everything(model) == before


def test_the_inner_block_wins_over_the_outer_and_both_over_what_was_applied() -> None:
    model = tiny()
    attention = model.layers[0].self_attn
    with apply(model, overrides(attention="blocked", mask={"join": "sliding_window(9)"})):
        with overriding(model, overrides(attention="eager")):
            with overriding(model, in_layers("layers.0", attention="sdpa")):
                assert (found := settings_for(attention)) is not None
                assert (found.implementation, repr(found.mask)) == ("sdpa", "sliding_window(size=9)")
                assert found.origin == {
                    "implementation": "with block, layers[0] 'layers.0'",
                    "mask": "overrides, the whole model",
                }
            assert (found := settings_for(attention)) is not None
            assert found.implementation == "eager"
        assert (found := settings_for(attention)) is not None
        assert found.implementation == "blocked"


def test_a_copy_that_is_made_inside_is_not_in_the_block() -> None:
    model = tiny()
    plain = logits(model, TOKENS)
    with overriding(model, window(2)):
        made = copy.deepcopy(model)
        assert torch.equal(logits(made, TOKENS), plain)
        assert not torch.equal(logits(model, TOKENS), plain)


def test_checkpointing_may_be_chosen_for_a_block() -> None:
    model = tiny().train()
    with overriding(model, overrides(checkpoint={"policy": "every_k", "k": 2})):
        assert [layer._checkpoint_function() is not None for layer in model.layers] == [True, False, True, False]
    assert [layer._checkpoint_function() for layer in model.layers] == [None] * 4


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_backward_after_the_block_recomputes_inside_of_it(use_reentrant: bool) -> None:
    model = tiny("mistral").train()
    embedded = model.model.embed_tokens.weight

    def gradient(block: Overrides) -> Tensor:
        model.zero_grad()
        with overriding(model, block):
            loss = model(TOKENS).logits.square().mean()
        loss.backward()
        assert embedded.grad is not None
        return embedded.grad.clone()

    fields: dict[str, Any] = {"mask": {"join": "sliding_window(2)"}, "attention": "sdpa"}
    plain = gradient(overrides(**fields))
    policy = {"policy": "full", "use_reentrant": use_reentrant}
    assert torch.equal(gradient(overrides(**fields, checkpoint=policy)), plain)
    assert not torch.equal(gradient(overrides(attention="sdpa")), plain)


def test_ten_threads_have_a_block_each_over_one_model() -> None:
    model = tiny("mistral", sliding_window=None, num_hidden_layers=2)
    sizes = range(1, 11)
    expected = {}
    for size in sizes:
        with overriding(model, window(size)):
            expected[size] = logits(model, TOKENS)
    assert len({each.sum().item() for each in expected.values()}) == 10
    start = threading.Barrier(11)
    wrong: list[int] = []

    def run(size: int) -> None:
        start.wait()
        with overriding(model, window(size)):
            wrong.extend(size for _ in range(3) if not torch.equal(logits(model, TOKENS), expected[size]))

    threads = [threading.Thread(target=run, args=(size,)) for size in sizes]
    plain = logits(model, TOKENS)
    for thread in threads:
        thread.start()
    start.wait()
    wrong.extend(0 for _ in range(3) if not torch.equal(logits(model, TOKENS), plain))  # beside them, in no block
    for thread in threads:
        thread.join()
    assert wrong == []


def test_one_thread_applies_to_its_model_while_another_runs_a_model_of_the_same_configuration() -> None:
    one, two = tiny("mistral"), tiny("mistral")
    two.config = one.config
    plain, wrong, stop = logits(two, TOKENS), [], threading.Event()

    def run() -> None:
        while not stop.is_set():
            if not torch.equal(logits(two, TOKENS), plain):
                wrong.append(1)

    thread = threading.Thread(target=run)
    thread.start()
    with overriding(one, window(4)):
        expected = logits(one, TOKENS)
    for _ in range(10):
        with apply(one, window(2)), overriding(one, window(4)):
            assert torch.equal(logits(one, TOKENS), expected)
    stop.set()
    thread.join()
    assert wrong == []


def test_tasks_of_one_thread_do_not_see_each_others_blocks() -> None:
    model = tiny()
    plain = logits(model, TOKENS)

    async def inside(size: int) -> Tensor:
        with overriding(model, window(size)):
            await asyncio.sleep(0)
            found = logits(model, TOKENS)
            await asyncio.sleep(0)
        return found

    async def outside() -> Tensor:
        await asyncio.sleep(0)
        return logits(model, TOKENS)

    async def together() -> tuple[Tensor, Tensor, Tensor]:
        return await asyncio.gather(inside(2), inside(3), outside())

    first, second, third = asyncio.run(together())
    assert torch.equal(third, plain)
    assert len({each.sum().item() for each in (first, second, third)}) == 3


@pytest.mark.parametrize(
    "chosen",
    [overrides(rope={"rope_type": "linear", "factor": 2.0}), in_layers("layers.0.input_layernorm", layer="RMSNorm")],
)
def test_what_changes_modules_is_refused_in_a_block(chosen: Overrides) -> None:
    with pytest.raises(UnsupportedFeature, match=r"must be of look-ups .* use apply"):
        overriding(tiny(), chosen)


def test_a_compiled_model_sees_what_is_applied_and_the_block_around_its_call() -> None:
    model = tiny("llama", num_hidden_layers=1)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    seen = []
    with torch.no_grad():
        seen.append((compiled(TOKENS).logits, logits(model, TOKENS)))
        with apply(model, overrides(attention="sdpa", mask={"join": "sliding_window(2)"})):
            seen.append((compiled(TOKENS).logits, logits(model, TOKENS)))
            with overriding(model, window(3)):
                seen.append((compiled(TOKENS).logits, logits(model, TOKENS)))
    for got, expected in seen:
        torch.testing.assert_close(got, expected, rtol=0, atol=limit(model, TOKENS))
    assert len({expected.sum().item() for _, expected in seen}) == 3


@pytest.mark.slow
def test_compiled_models_see_everything_that_is_applied_and_the_blocks_around_their_calls() -> None:
    model = tiny("mistral")
    compiled = torch.compile(model, fullgraph=True, backend="eager")

    def same() -> Tensor:
        expected = logits(model, TOKENS)
        with torch.no_grad():
            torch.testing.assert_close(compiled(TOKENS).logits, expected, rtol=0, atol=limit(model, TOKENS))
        return expected

    seen = [same()]
    with apply(model, in_layers("layers.0-1", mask={"join": "sliding_window(2)"}, attention="sdpa")):
        seen.append(same())
        with overriding(model, window(3)):
            seen.append(same())
        assert torch.equal(same(), seen[1])
    with apply(model, in_layers("layers.3", rope={"rope_type": "linear", "factor": 2.0})):
        seen.append(same())
    with apply(model, overrides(mask={"replace": "bidirectional"})):
        seen.append(same())
    assert torch.equal(same(), seen[0])
    assert len({each.sum().item() for each in seen}) == 5


def test_looking_a_setting_up_takes_less_than_a_microsecond_where_there_is_none() -> None:
    attention, count = tiny().layers[0].self_attn, 10_000
    # The processor's time of this process, which neighbours do not take: 0.3 microseconds, with the loop's own.
    took = timeit.repeat(lambda: settings_for(attention), timer=time.process_time, number=count, repeat=7)
    assert min(took) / count < 1e-6
