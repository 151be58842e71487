import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from headstock.attention import AttentionInterface
from headstock.errors import InvalidConfig, UnknownName
from headstock.overrides import Overrides, SetupWarning, Tables, load_overrides, overrides_metadata, save_overrides
from headstock.overrides.saving import METADATA_KEY
from tests.support.overrides import TABLES

CHOSEN = Overrides.from_dict(
    {
        "attention": "sdpa",
        "checkpoint": {"policy": "every_k", "k": 2, "inner": "offload"},
        "layers": {
            "layers.0": {"mask": {"join": "causal & (sliding_window(4) | first_tokens(1))"}, "checkpoint": "off"},
            "layers.1": {"attention": "auto", "rope": {"rope_type": "linear", "factor": 2.0}},
            "norm": {"layer": "RMSNorm"},
        },
    }
)


def test_overrides_travel_in_the_metadata_of_a_file_whose_tensors_stay(tmp_path: Path) -> None:
    file, tensors = tmp_path / "model.safetensors", {"a": torch.randn(3, 5), "b": torch.arange(7, dtype=torch.bfloat16)}
    save_file(tensors, file, metadata={"format": "pt", "c": "a"})
    file.chmod(0o640)
    before = load_file(file)  # a reader of the file as it was
    assert load_overrides(file) is None
    save_overrides(file, Overrides(attention="eager"))
    save_overrides(file, CHOSEN)
    assert load_overrides(file) == CHOSEN
    assert all(torch.equal(tensor, load_file(file)[name]) for name, tensor in before.items())
    with safe_open(file, "pt") as opened:
        assert {"format": "pt", "c": "a"}.items() <= opened.metadata().items()
    assert file.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_file_without_metadata_gets_some(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(1)}, file)
    save_overrides(file, CHOSEN)
    assert load_overrides(file) == CHOSEN


def test_metadata_say_versions_and_where_components_lie_and_nothing_of_the_machine() -> None:
    metadata: dict[str, str] = {"format": "pt"}
    save_overrides(metadata, CHOSEN)
    record = json.loads(metadata[METADATA_KEY])
    assert metadata["format"] == "pt"
    assert record["versions"].keys() == {"python", "headstock", "torch", "transformers"}
    assert record["components"]["mask"].keys() == {"causal", "first_tokens", "sliding_window"}
    assert record["components"]["checkpoint"].keys() == {"every_k", "offload"}
    assert record["components"]["layer"] == {"RMSNorm": "headstock.layers.norms.RMSNorm"}
    assert record["components"]["rope"]["linear"].startswith("headstock.rope.linear.")
    assert record["components"]["attention"].keys() == {"sdpa"}
    assert str(Path(__file__).parent.parent) not in metadata[METADATA_KEY]


def changed(**fields: Any) -> dict[str, str]:
    record = json.loads(overrides_metadata(CHOSEN)[METADATA_KEY])
    for path, value in fields.items():
        *parents, last = path.split("__")
        place = record
        for each in parents:
            place = place[each]
        place[last] = value
    return {METADATA_KEY: json.dumps(record)}


def test_another_setup_is_told_difference_by_difference() -> None:
    saved = changed(versions__torch="1.0", components__attention={"sdpa": "elsewhere.sdpa"}, components__mask=3)
    with pytest.warns(SetupWarning, match="should be loaded under the set-up that they were saved under") as told:
        assert load_overrides(saved) == CHOSEN
    warning = told[0].message
    assert isinstance(warning, SetupWarning)
    assert len(warning.differences) == 5
    assert warning.differences[0] == f"torch {torch.__version__}, saved with 1.0"
    assert warning.differences[1].startswith("attention sdpa headstock.attention.sdpa.")
    assert all(each.startswith("mask ") for each in warning.differences[2:])


@pytest.mark.parametrize("field", ["overrides", "versions", "components"])
def test_a_record_that_lacks_a_field_is_refused(field: str) -> None:
    with pytest.raises(InvalidConfig, match=f"saved overrides must hold the field '{field}', an object, got None"):
        load_overrides(changed(**{field: None}))


@pytest.mark.parametrize(
    ("text", "told"), [('{"format": 2}', "of format 1, got 2"), ("[1]", "of format 1, got 'list'")]
)
def test_a_record_of_another_format_is_refused(text: str, told: str) -> None:
    with pytest.raises(InvalidConfig, match=told):
        load_overrides({METADATA_KEY: text})


def test_a_component_that_is_not_registered_is_refused() -> None:
    mine = Overrides(attention="mine")
    table = AttentionInterface()
    table["mine"] = table["eager"]
    with pytest.raises(UnknownName, match=r"the attention that overrides name must be one of 'auto', .*, got 'mine'"):
        overrides_metadata(mine)
    metadata = overrides_metadata(mine, tables=Tables(attention=table))
    assert load_overrides(metadata, tables=Tables(attention=table)) == mine
    with pytest.raises(UnknownName, match="the attention that overrides name must be one of"):
        load_overrides(metadata)


def test_tables_of_ones_own_may_be_plain_mappings() -> None:
    chosen = Overrides.from_dict({"mask": {"join": "ours"}, "layers": {"norm": {"layer": "Doubled"}}})
    from headstock.masks import causal

    tables = Tables(masks={"ours": causal}, layers=TABLES.layers)
    metadata = overrides_metadata(chosen, tables=tables)
    assert load_overrides(metadata, tables=tables) == chosen
    with pytest.raises(UnknownName, match="'ours'"):
        load_overrides(metadata)
