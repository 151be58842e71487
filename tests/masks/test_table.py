"""The shared tables: what they hold, what they refuse, what they plug into."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from headstock.errors import InvalidComponent, UnknownName
from headstock.masks import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    ALL_MASK_PATTERNS,
    AttentionMaskInterface,
    BlockPlan,
    Geometry,
    KernelWindow,
    MaskPatternInterface,
    Varlen,
    causal,
    patterns,
    sliding_window,
    to_additive,
    to_block_mask,
    to_block_mask_or_tiles,
    to_causal_or_blocks,
    to_causal_or_dense,
    to_dense,
    to_dense_or_additive,
    to_plan,
    to_varlen,
    to_varlen_parts,
    to_window,
)


def test_the_representations_and_transformers_keys_for_them() -> None:
    assert dict[str, object](ALL_MASK_ATTENTION_FUNCTIONS) == {
        "additive": to_additive,
        "block_mask": to_block_mask,
        "block_mask_or_tiles": to_block_mask_or_tiles,
        "causal_or_blocks": to_causal_or_blocks,
        "causal_or_dense": to_causal_or_dense,
        "dense": to_dense,
        "dense_or_additive": to_dense_or_additive,
        "eager": to_additive,
        "flash_attention_2": to_varlen,
        "flash_attention_3": to_varlen,
        "flash_attention_4": to_varlen,
        "flex_attention": to_block_mask,
        "plan": to_plan,
        "sdpa": to_causal_or_dense,
        "varlen": to_varlen,
        "varlen_parts": to_varlen_parts,
        "window": to_window,
    }


def test_the_patterns() -> None:
    assert dict[str, object](ALL_MASK_PATTERNS) == {name: getattr(patterns, name) for name in patterns.__all__}


@pytest.mark.parametrize("name", ["block_mask", "flex_attention"])
def test_the_representation_in_blocks_takes_the_same_four(name: str) -> None:
    geometry = Geometry(batch_size=1, q_length=2, kv_length=3)
    found = ALL_MASK_ATTENTION_FUNCTIONS[name](causal(), geometry, dtype=torch.float32, device=torch.device("cpu"))
    assert found.shape == (1, 1, 2, 3)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("plan", BlockPlan), ("varlen", Varlen), ("flash_attention_2", Varlen), ("window", KernelWindow)],
)
def test_the_representations_for_kernels_take_the_same_four(name: str, kind: type) -> None:
    geometry = Geometry(batch_size=1, q_length=2, kv_length=3, q_offset=1)
    found = ALL_MASK_ATTENTION_FUNCTIONS[name](causal(), geometry, dtype=torch.float32, device=torch.device("cpu"))
    assert isinstance(found, kind)


@pytest.mark.parametrize("name", ["additive", "causal_or_dense", "dense", "dense_or_additive", "eager", "sdpa"])
def test_every_dense_representation_takes_the_same_four(name: str) -> None:
    geometry = Geometry(batch_size=1, q_length=2, kv_length=3)
    found: Any = ALL_MASK_ATTENTION_FUNCTIONS[name](causal(), geometry, dtype=torch.float32, device=torch.device("cpu"))
    tensor = found if isinstance(found, torch.Tensor) else found.attention_mask
    assert tensor is None or tensor.shape == (1, 1, 2, 3)


def test_a_pattern_is_looked_up_by_name() -> None:
    assert ALL_MASK_PATTERNS["sliding_window"](4, right=1) == sliding_window(4, right=1)
    with pytest.raises(UnknownName, match=r"'sliding_windows'.*sliding_window"):
        ALL_MASK_PATTERNS["sliding_windows"]


def takes_no_device(mask: Any, geometry: Any, *, dtype: Any) -> Any:
    return mask


def takes_more(mask: Any, geometry: Any, *, dtype: Any, device: Any, block_size: int) -> Any:
    return mask


def takes_positions(mask: Any, geometry: Any, dtype: Any = None, device: Any = None, block_size: int = 128) -> Any:
    return mask


@pytest.mark.parametrize(
    ("component", "text"),
    [
        (
            takes_no_device,
            r"mask representation 'mine' must be a function \(mask, geometry, \*, dtype, device\), got takes_no",
        ),
        (takes_more, r"got takes_more\(.*block_size: int\) -> Any; take these four, `dtype` and `device` as keywords"),
        (3, "mask representation 'mine' must be callable, got 3"),
    ],
)
def test_what_is_no_representation_is_refused(component: Any, text: str) -> None:
    local = AttentionMaskInterface()
    with pytest.raises(InvalidComponent, match=text):
        local["mine"] = component
    with pytest.raises(InvalidComponent, match=text):
        AttentionMaskInterface.register("mine", component)
    assert "mine" not in ALL_MASK_ATTENTION_FUNCTIONS


def test_what_can_be_called_with_the_four_is_a_representation() -> None:
    local = AttentionMaskInterface()
    local["mine"] = takes_positions
    local["built-in"] = max  # type: ignore[assignment]  # its signature cannot be read
    assert {"mine", "built-in"} <= set(local)


def test_what_is_no_pattern_is_refused() -> None:
    with pytest.raises(
        InvalidComponent, match="mask pattern 'mine' must be a function that returns a Mask, got causal"
    ):
        MaskPatternInterface()["mine"] = causal()


def test_plug_ins_bring_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mask_plug_in-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: mask-plug-in\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[headstock.masks]\nevery_other = mask_plug_in:every_other\n")
    monkeypatch.syspath_prepend(tmp_path)
    # Listed and not loaded, so that nothing of it outlives the test.
    assert "every_other" in ALL_MASK_PATTERNS
    assert "every_other" not in ALL_MASK_ATTENTION_FUNCTIONS


@pytest.mark.parametrize("interface", [AttentionMaskInterface, MaskPatternInterface])
def test_local_tables_copy_and_pickle_over_the_shared_one(interface: Any) -> None:
    local = interface()
    assert copy.deepcopy(local).parent is pickle.loads(pickle.dumps(local)).parent is interface.registry
