"""Every default of transformers 5.23.0's model folders is read, and its frequencies are those of its own model."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from headstock.errors import InvalidConfig
from headstock.rope import AxialParameters, RopeParameters, rope_layer_types
from tests.support.transformers_rope import class_of, default_configs, rotary_classes

# Defaults with which nothing can be rotated, there or here, each with what is said about it.
REFUSED = {
    "blt.BltConfig": "head_dim must be given",  # has no heads: its four parts do
    "qwen3_omni_moe.Qwen3OmniMoeTextConfig": "must be an even number of channels",  # 2048 // 28 = 73
}
# Defaults whose rotary module gives no such vector, each with the reason.
NOT_COMPARED = {
    "cohere_compass.CohereCompassTextConfig": "KeyError there: its default has no parameters for its layer type",
    "internlm3.InternLM3Config": "no modeling file",
    "iquestcoder.IQuestCoderConfig": "no modeling file",
    "llama4.Llama4VisionConfig": "complex numbers for a whole grid",
}
# Its documented `rotary_dim` of 64 is not read there, so all 128 channels turn: docs/rope.md.
UNREAD_ROTARY_DIM = "minimax_m3_vl.MiniMaxM3VLTextConfig"
# Its rotary module works on a grid, whose parameters the config calls "default".
AXIAL = "eomt_dinov3.EomtDinov3Config"
# They keep frequencies in the order in which axes take turns, which is the business of `angles` here.
REORDERED = {"ernie4_5_vl_moe.Ernie4_5_VLMoeTextConfig", "ernie4_5_vl_moe.Ernie4_5_VL_MoeTextConfig"}


def parameters_of(config: Any) -> dict[str | None, RopeParameters | None]:
    if rope_layer_types(config):
        return dict(RopeParameters.per_layer_type(config).items())
    return {None: RopeParameters.from_config(config)}


def test_the_walk_finds_what_is_there() -> None:
    assert len({class_of(config) for config in default_configs().values()}) >= 237
    assert len(default_configs()) >= 400


def test_every_default_is_read_without_a_warning() -> None:
    refused, sets = {}, 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for config in default_configs().values():
            try:
                sets += len(parameters_of(config))
            except InvalidConfig as error:
                refused[class_of(config)] = str(error)
    assert set(refused) == set(REFUSED)
    assert [name for name, text in refused.items() if REFUSED[name] not in text] == []
    assert sets >= 400


def frequencies_there(module: nn.Module, layer_type: str | None) -> tuple[Tensor, float] | None:
    prefix = "" if layer_type is None else f"{layer_type}_"
    inv_freq = getattr(module, f"{prefix}inv_freq", None)
    return None if inv_freq is None else (inv_freq, getattr(module, f"{prefix}attention_scaling", 1.0))


def agree(cls: str, parameters: RopeParameters, theirs: Tensor, factor: float) -> bool:
    if cls == UNREAD_ROTARY_DIM:
        parameters = parameters.model_copy(update={"partial_rotary_factor": 1.0})
    if cls == AXIAL:
        parameters = AxialParameters.from_config(parameters)
    ours, our_factor = parameters.frequencies()
    if isinstance(parameters, AxialParameters) and parameters.axial_spectrum == "each":
        theirs = theirs.repeat(parameters.axes).sort().values  # they keep one axis' share, and bring it in order later
        ours = ours.sort().values
    if cls in REORDERED:
        ours, theirs = ours.sort().values, theirs.sort().values
    # The same operations in float32, up to the order of a division: two roundings of 6e-8.
    same = ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=1e-6, atol=0)
    return same and abs(float(our_factor) - factor) <= 1e-6 * factor


@pytest.mark.slow
def test_frequencies_are_those_of_the_models_own_modules() -> None:
    wrong, compared, modules, without = [], 0, set(), set()
    for name, config in default_configs().items():
        cls, before = class_of(config), compared
        if cls in REFUSED:
            continue
        for rotary in rotary_classes(config) if cls not in NOT_COMPARED else ():
            module = rotary(config)
            for layer_type, parameters in parameters_of(config).items():
                there = frequencies_there(module, layer_type)
                if parameters is not None and there is not None:
                    wrong += [] if agree(cls, parameters, *there) else [f"{name}, {layer_type}: {parameters}"]
                    compared += 1
                    modules.add(rotary)
        without |= {cls} if compared == before else set()
    assert wrong == []
    assert without == set(NOT_COMPARED)
    assert compared >= 440
    assert len(modules) >= 216
