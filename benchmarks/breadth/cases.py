"""The language architectures of transformers, by the task that they are built for."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

__all__ = ["Case", "cases"]

Task = Literal["causal", "masked", "seq2seq"]


_NAMES = {"GPT2LMHeadModel": "gpt2", "Llama4ForCausalLM": "llama4_text", "LlamaForCausalLM": "llama"}


class Case(NamedTuple):
    """One architecture for one task."""

    task: Task
    kind: str
    model: str


def cases(tasks: Iterable[Task] = ("causal", "masked", "seq2seq"), kinds: Iterable[str] = ()) -> list[Case]:
    """Every architecture of transformers' automatic classes for `tasks`, or those of `kinds`.

    One model class is taken once, under its own name where several have it. whisper counts as sequence-to-sequence.
    """
    from transformers.models.auto import modeling_auto as auto

    tables: dict[Task, dict[str, str]] = {
        "causal": auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        "masked": auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        "seq2seq": {
            **auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
            **{kind: auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES[kind] for kind in ("whisper",)},
        },
    }
    wanted = set(kinds)
    found: dict[str, Case] = {}
    for task in tasks:
        for kind, model in tables[task].items():
            if (not wanted or kind in wanted) and kind == _NAMES.get(model, kind):
                found.setdefault(f"{task} {model}", Case(task, kind, model))
    return list(found.values())
