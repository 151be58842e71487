"""What each generation runs on."""

from typing import Any

import pytest
import torch

from headstock.attention.flash.core import flash_limits
from headstock.attention.request import Request
from headstock.attention.situation import Situation
from tests.support.flash_stand_in import Flash2, Flash3, Flash4, installed

HOPPER = "runs on compute capability 9.0 alone (Hopper)"
VERSIONS: dict[int, Any] = {2: Flash2, 3: Flash3, 4: Flash4}


def situation(head_dim: int = 64, value_dim: int = 64, **options: Any) -> Situation:
    cuda = torch.device("cuda")
    return Situation(cuda, torch.bfloat16, 2, 8, 2, 512, 512, head_dim, value_dim, is_named=True, **options)


def reasons(generation: int, asked: Situation) -> list[str]:
    with installed(VERSIONS[generation]):
        return list(flash_limits(generation).reasons_against(asked, Request(0.125)))


def on_device(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)


@pytest.mark.parametrize("generation", [2, 3, 4])
def test_a_device_that_is_not_here_is_asked_about(generation: int) -> None:
    asked = situation()
    if torch.cuda.is_available():
        pytest.skip("it is here")
    assert reasons(generation, asked) == []


@pytest.mark.parametrize(
    ("generation", "capability", "told"),
    [
        (2, (7, 5), ["needs compute capability 8.0 (this device has 7.5)"]),
        (2, (8, 0), []),
        (2, (12, 0), []),
        (
            3,
            (8, 9),
            ["needs compute capability 9.0 (this device has 8.9)", HOPPER],
        ),
        (3, (9, 0), []),
        (3, (10, 0), [HOPPER]),
        (4, (9, 0), []),
        (4, (10, 0), []),
    ],
)
def test_devices(monkeypatch: pytest.MonkeyPatch, generation: int, capability: Any, told: list[str]) -> None:
    on_device(monkeypatch, capability)
    assert reasons(generation, situation()) == told


@pytest.mark.parametrize(
    ("capability", "sizes", "is_taken"),
    [((9, 0), (256, 256), True), ((10, 0), (128, 128), True), ((10, 0), (192, 128), True), ((10, 0), (256, 64), False)],
)
def test_head_sizes_of_flash_attention_4(
    monkeypatch: pytest.MonkeyPatch, capability: Any, sizes: tuple[int, int], is_taken: bool
) -> None:
    on_device(monkeypatch, capability)
    told = [] if is_taken else ["takes head sizes up to 128 on this device, or 192 with values of 128 (got 256 and 64)"]
    assert reasons(4, situation(*sizes)) == told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"head_dim": 512, "value_dim": 512}, "takes head sizes up to 256"),
        ({"is_transformed": True}, "does not work under torch.func"),
        ({"is_compiling": True, "is_exporting": True}, "cannot be exported"),
        ({"is_paged": True}, "does not read pages"),
    ],
)
def test_what_no_generation_does(options: dict[str, Any], told: str) -> None:
    for generation in VERSIONS:
        assert any(each.startswith(told) for each in reasons(generation, situation(**options)))
