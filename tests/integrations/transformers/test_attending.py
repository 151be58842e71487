"""Models of transformers compute with headstock what they compute with their own eager attention."""

import copy
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, CompileConfig

from benchmarks.breadth import cases, check
from headstock.integrations.transformers import installed
from headstock.integrations.transformers.masking import mask_function
from tests.support.llama import SMOLLM2, half_split, prompt, smollm2, smollm2_weights, theirs
from tests.support.tiny_transformers import checkpoint_layers, tiny
from tests.support.transformers_attention import batch, difference, twins, with_headstock

# Two layers of width 32 in float32: some hundred roundings of 6e-8 each; the project promises 1e-4.
LIMIT = 1e-5
MODELS = ("llama", "mistral", "gemma2", "gpt_oss", "gpt2", "deepseek_v32", "doge")
MASKED = ("bert", "modernbert")
SEQ2SEQ = ("t5", "whisper")


@pytest.fixture(autouse=True, scope="module")
def _installed() -> Iterator[None]:
    with with_headstock():
        yield


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        *(("causal", kind) for kind in MODELS),
        *(("masked", kind) for kind in MASKED),
        *(("seq2seq", kind) for kind in SEQ2SEQ),
    ],
)
@pytest.mark.filterwarnings("ignore")  # of configurations with sizes that nobody uses
def test_logits_and_decoding_are_those_of_eager(task: Any, kind: str) -> None:
    (case,) = cases([task], [kind])
    verdict = check(case, "headstock")
    assert verdict.outcome == "equal", verdict.reason
    assert verdict.layers >= 2
    assert verdict.error <= LIMIT


@pytest.mark.parametrize("implementation", ["headstock:blocked", "headstock:eager", "headstock:torch"])
@pytest.mark.parametrize("kind", ["mistral", "llama4_text"])
@torch.no_grad()
def test_every_implementation_says_the_same(kind: str, implementation: str) -> None:
    eager, ours = twins(tiny(kind, "eager"), implementation)
    for side in ("left", "right"):
        ids, keep = batch(tokens=40, side=side)
        found, wanted = (model(ids, attention_mask=keep).logits[keep.bool()] for model in (ours, eager))
        assert difference(found, wanted) <= LIMIT


def test_the_names_of_other_implementations_are_there_with_their_functions() -> None:
    from headstock.attention import ALL_ATTENTION_FUNCTIONS
    from headstock.integrations.transformers.naming import IMPLEMENTATIONS

    held = {name for name, wanted in IMPLEMENTATIONS.items() if wanted == "auto" or wanted in ALL_ATTENTION_FUNCTIONS}
    assert held == set(installed())


@torch.no_grad()
def test_packed_sequences_are_each_as_if_alone() -> None:
    _, ours = twins(tiny("mistral", "eager"))
    ids, lengths = torch.randint(1, 60, (1, 24)), [9, 4, 11]
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    packed = ours(ids, position_ids=positions, use_cache=False).logits.split(lengths, 1)
    for part, found in zip(ids.split(lengths, 1), packed, strict=True):
        assert difference(found, ours(part).logits) <= LIMIT


@torch.no_grad()
@pytest.mark.parametrize("numbers", [True, False])
def test_a_mask_of_four_dimensions_given_by_the_user_is_honoured(numbers: bool) -> None:
    eager, ours = twins(tiny("llama", "eager"))
    ids, _ = batch()
    seen = (torch.rand(2, 1, 13, 13) < 0.5) | torch.eye(13, dtype=torch.bool)
    added = torch.zeros(2, 1, 13, 13).masked_fill(~seen, torch.finfo(torch.float32).min)
    found = ours(ids, attention_mask=added if numbers else seen).logits
    assert difference(found, eager(ids, attention_mask=added).logits) <= LIMIT


CACHES: dict[str, dict[str, Any]] = {
    "growing": {},
    "static": {"cache_implementation": "static", "disable_compile": True},
    "offloaded beams": {"num_beams": 2},
    "none": {"use_cache": False},
}


@pytest.mark.parametrize("kind", ["mistral", "gemma3_text"])
@pytest.mark.parametrize("cache", CACHES)
def test_generation_from_every_cache_gives_eagers_tokens(kind: str, cache: str) -> None:
    eager, ours = twins(tiny(kind, "eager"))
    ids, keep = batch()
    said = {"attention_mask": keep, "max_new_tokens": 8, "do_sample": False, "eos_token_id": None, **CACHES[cache]}
    assert torch.equal(ours.generate(ids, **said), eager.generate(ids, **said))


def gradients(model: Any, ids: Tensor, keep: Tensor) -> dict[str, Tensor]:
    # The first token after padding is told from a row that sees nothing: zeros here, the mean of all values in eager.
    labels = ids.masked_fill((keep == 0) | (keep.roll(1, -1) == 0), -100)
    model.zero_grad()
    model(ids, attention_mask=keep, labels=labels, use_cache=False).loss.backward()
    return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
def test_gradients_are_those_of_eager(kind: str) -> None:
    eager, ours = twins(tiny(kind, "eager").train())
    ids, keep = batch()
    wanted, found = gradients(eager, ids, keep), gradients(ours, ids, keep)
    assert found.keys() == wanted.keys()
    whole = max(float(each.abs().max()) for each in wanted.values())
    assert max(float((found[name] - wanted[name]).abs().max()) for name in wanted) <= LIMIT * whole


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_layers_have_the_same_gradients(reentrant: bool) -> None:
    model = tiny("mistral", "headstock:blocked").train()
    ids, keep = batch()
    wanted = gradients(model, ids, keep)
    checkpoint_layers(model, {"use_reentrant": reentrant})
    found = gradients(model, ids, keep)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.slow
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("implementation", ["headstock", "headstock:blocked"])
def test_a_compiled_model_is_one_graph_and_says_the_same(implementation: str, packed: bool) -> None:
    model = tiny("mistral", implementation)
    ids, keep = batch()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    positions = torch.cat([torch.arange(5), torch.arange(8)])[None].expand(2, -1)
    said = {"position_ids": positions} if packed else {"attention_mask": keep}
    with torch.no_grad():
        found, wanted = (each(ids, use_cache=False, **said).logits for each in (compiled, model))
    assert difference(found[keep.bool()], wanted[keep.bool()]) <= LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("implementation", ["headstock", "headstock:blocked", "headstock:eager"])
def test_checkpointed_layers_of_a_compiled_model_have_the_same_gradients(implementation: str) -> None:
    model = tiny("mistral", implementation).train()
    ids, keep = batch()
    wanted = gradients(model, ids, keep)
    checkpoint_layers(model, {"use_reentrant": False})
    found = gradients(torch.compile(model, fullgraph=True, backend="aot_eager"), ids, keep)
    whole = max(float(each.abs().max()) for each in wanted.values())
    own = {name.removeprefix("_orig_mod."): each for name, each in found.items()}
    assert max(float((own[name] - wanted[name]).abs().max()) for name in wanted) <= LIMIT * whole


@pytest.mark.slow
def test_a_compiled_training_step_makes_one_plan_for_all_layers() -> None:
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch import aot_autograd as parts
    from torch._functorch.partitioners import min_cut_rematerialization_partition

    calls: Counter[str] = Counter()

    def noted(graph: Any, _: Any) -> Any:
        calls.update(str(each.target) for each in graph.graph.nodes if "headstock" in str(each.target))
        return vars(parts)["make_boxed_func"](graph)

    model = tiny("mistral", "headstock:blocked").train()
    backend_of: Any = aot_autograd
    backend = backend_of(fw_compiler=noted, partition_fn=min_cut_rematerialization_partition)
    ids, keep = batch()
    compiled: Any = torch.compile(model, fullgraph=True, backend=backend)
    compiled(ids, attention_mask=keep, use_cache=False)
    assert calls["headstock.tile_mask.default"] == 1
    assert calls["headstock.blocked_attention.default"] == model.config.num_hidden_layers == 2


def test_a_compiled_layer_takes_a_mask_that_was_made_outside() -> None:
    attention = tiny("mistral", "headstock").model.layers[0].self_attn
    hidden, embeddings = torch.randn(2, 9, 32), (torch.ones(1, 9, 8), torch.zeros(1, 9, 8))
    mask = mask_function(2, 9, 9, attention_mask=batch(tokens=9)[1])
    compiled = torch.compile(attention, fullgraph=True, backend="eager")
    with torch.no_grad():
        found, wanted = (each(hidden, embeddings, mask)[0] for each in (compiled, attention))
    assert difference(found, wanted) <= LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("implementation", ["headstock", "headstock:blocked"])
def test_compiled_decoding_from_a_static_cache_makes_at_most_one_graph_more_than_sdpa(implementation: str) -> None:
    from torch._dynamo.utils import counters

    ids, keep = batch()
    graphs = {}
    for name in (implementation, "sdpa"):
        torch._dynamo.reset()
        counters.clear()
        config: Any = CompileConfig(fullgraph=True, backend="aot_eager")
        config.mode, config._compile_all_devices = None, True
        model = tiny("llama", name)
        said = {"attention_mask": keep, "max_new_tokens": 12, "do_sample": False, "eos_token_id": None}
        wanted = model.generate(ids, **said)
        assert torch.equal(model.generate(ids, **said, cache_implementation="static", compile_config=config), wanted)
        graphs[name] = counters["stats"]["unique_graphs"]
    # dynamo takes the offset of the first step for a constant, and that of all others for a symbol.
    assert 0 < graphs[implementation] <= graphs["sdpa"] + 1


def test_one_plan_serves_all_layers_of_a_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    from headstock.masks import lowering

    plans = []
    original = vars(lowering)["plan"]

    def noted(*arguments: Any, **keywords: Any) -> Any:
        plans.append(arguments)
        return original(*arguments, **keywords)

    monkeypatch.setattr(lowering, "plan", noted)
    model = tiny("mistral", "headstock:blocked")
    ids, keep = batch()
    with torch.no_grad():
        model(ids, attention_mask=keep)
    assert len(plans) == 1
    assert model.config.num_hidden_layers == 2


def test_a_mask_of_sdpa_in_one_layer_of_another_implementation_is_refused() -> None:
    model = tiny("llama", "headstock")
    layer = model.model.layers[1].self_attn
    layer.config = copy.deepcopy(model.config)
    layer.config._attn_implementation = "sdpa"
    with pytest.raises(ValueError, match="the mask of llama must be passed on as it is to the attention function"):
        model(*batch())


def test_an_implementation_is_set_on_a_live_model() -> None:
    model = tiny("llama", "sdpa")
    ids, keep = batch()
    with torch.no_grad():
        wanted = model(ids, attention_mask=keep).logits
        model.set_attn_implementation("headstock")
        assert model.config._attn_implementation == "headstock"
        assert difference(model(ids, attention_mask=keep).logits[keep.bool()], wanted[keep.bool()]) <= LIMIT


def test_weights_are_those_of_eager_where_a_model_is_asked_for_them() -> None:
    eager, ours = twins(tiny("bert", "eager"))
    ids, keep = batch()
    with torch.no_grad():
        found, wanted = (m(ids, attention_mask=keep, output_attentions=True).attentions for m in (ours, eager))
    assert len(found) == len(wanted) == 2
    for one, other in zip(found, wanted, strict=True):
        assert difference(one.transpose(1, 2)[keep.bool()], other.transpose(1, 2)[keep.bool()]) <= LIMIT


def test_half_precision_stays_within_its_rounding() -> None:
    model = AutoModelForCausalLM.from_config(tiny("llama", "eager").config, attn_implementation="headstock")
    ids, keep = batch()
    with torch.no_grad():
        wanted = model(ids, attention_mask=keep).logits
        found = model.bfloat16()(ids, attention_mask=keep).logits
    assert found.dtype == torch.bfloat16
    # bfloat16 keeps 8 bits, and two layers round some ten times in a row.
    assert difference(found.float()[keep.bool()], wanted[keep.bool()]) <= 10 * 2**-8


@pytest.mark.slow
def test_smollm2_writes_the_same_words_as_with_sdpa() -> None:
    model = theirs(smollm2(half_split(smollm2_weights())), **SMOLLM2)
    tokens = prompt("The capital of France is")
    said: dict[str, Any] = {"attention_mask": torch.ones_like(tokens), "max_new_tokens": 32, "do_sample": False}
    words = {}
    for name in ("sdpa", "headstock"):
        model.set_attn_implementation(name)
        words[name] = model.generate(tokens, **said)
    assert torch.equal(words["headstock"], words["sdpa"])
    assert words["sdpa"].shape[1] > tokens.shape[1]
