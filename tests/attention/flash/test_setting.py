"""The flash attention of the process, as torch tells it."""

import pytest
from torch.nn import attention

from headstock.attention.flash import active_flash_implementation
from headstock.attention.flash.setting import FlashSetting


def test_nothing_is_activated_at_first() -> None:
    found = active_flash_implementation()
    assert found.active is None
    assert found.told is None


def test_an_activated_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "current_flash_attention_impl", lambda: "FA3", raising=False)
    monkeypatch.setattr(attention, "list_flash_attention_impls", lambda: ["FA3", "FA4"], raising=False)
    assert active_flash_implementation() == FlashSetting("FA3", ("FA3", "FA4"))
    told = active_flash_implementation().told
    assert told == "torch's flash kernels (sdpa, varlen) are FA3's, by activate_flash_attention_impl"


def test_a_torch_without_the_setting_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(attention, "current_flash_attention_impl", raising=False)
    monkeypatch.delattr(attention, "list_flash_attention_impls", raising=False)
    assert active_flash_implementation() == FlashSetting(None, ())
