"""The file of measurements: written whole, read back, and refused where it does not fit."""

import json
from pathlib import Path

import pytest
import torch

from headstock.attention import Cost
from headstock.attention.auto import defaults
from headstock.attention.auto.costs import scaled_by
from headstock.attention.auto.measured import DeviceTable, Measured, device_name
from headstock.attention.auto.profiles import VARIABLE
from headstock.errors import InvalidConfig

ROWS = {"sdpa": {"launch": 3.0, "products": 5.0}}


def table(**change: object) -> DeviceTable:
    fields = {"name": device_name("cpu"), "torch_version": torch.__version__, "threads": 1, "scale": 2.0, "rows": ROWS}
    return DeviceTable(**{**fields, **change})  # type: ignore[arg-type]


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    measured = Measured().with_device("cpu", table())
    path = measured.save(tmp_path / "new" / "tuned.json")
    assert Measured.read(path) == measured
    assert [each.name for each in path.parent.iterdir()] == ["tuned.json"]


def test_measured_rows_hold_and_the_others_are_brought_to_the_same_scale() -> None:
    profile = Measured().with_device("cpu", table()).over(defaults.CPU, "cpu", "here")
    assert profile.rows["sdpa"] == Cost(launch=3.0, products=5.0)
    assert profile.rows["eager"] == scaled_by(defaults.CPU.rows["eager"], 2.0)
    assert profile.neutral == scaled_by(defaults.CPU.neutral, 2.0)
    assert profile.source == "measured, here"
    assert Measured().over(defaults.CPU, "cpu", "here") is defaults.CPU


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": "another"}, "measurements must be of the device that is in use, .*, got another; measure again"),
        ({"torch_version": "1.0"}, r"measurements must be of the torch that is in use, .*, got 1\.0; measure again"),
        ({"rows": {"sdpa": {"lunch": 1.0}}}, "the coefficients of 'sdpa' must be of launch, .*, got 'lunch'; measure"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidConfig, match=text):
        Measured().with_device("cpu", table(**change)).over(defaults.CPU, "cpu", "here")


def test_measurements_of_a_card_that_is_not_here_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InvalidConfig, match="must be of the device that is in use, none, got H100; measure again"):
        Measured().with_device("cuda", table(name="H100")).over(defaults.CUDA, "cuda", "here")


@pytest.mark.parametrize("content", ["", "[]", '{"format": 2}', '{"code": "import os"}', '{"devices": {"cpu": {}}}'])
def test_a_file_of_another_form_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tuned.json"
    path.write_text(content)
    with pytest.raises(
        InvalidConfig, match=r"tuned\.json must be a file that `headstock tune` wrote, got .*forget them"
    ):
        Measured.read(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="must be a file that `headstock tune` wrote, got No such file"):
        Measured.read(tmp_path / "none.json")


@pytest.mark.parametrize("value", [-1.0, float("nan"), "fast"])
def test_a_coefficient_that_is_no_time_is_refused(tmp_path: Path, value: object) -> None:
    path = Measured().with_device("cpu", table()).save(tmp_path / "tuned.json")
    data = json.loads(path.read_text())
    data["devices"]["cpu"]["rows"]["sdpa"]["launch"] = value
    path.write_text(json.dumps(data))
    with pytest.raises(InvalidConfig, match="must be a file that `headstock tune` wrote"):
        Measured.read(path)


def test_there_must_be_a_place_to_write_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(InvalidConfig, match="measurements must have a file to go to, got HEADSTOCK_TUNED empty"):
        Measured().save()
    (tmp_path / "file").write_text("")
    with pytest.raises(
        InvalidConfig, match=r"must go to a file that can be written, got .*tuned\.json: .*; name another"
    ):
        Measured().save(tmp_path / "file" / "tuned.json")
