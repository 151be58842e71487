"""Where flash attention is found, and what is said where it is not."""

import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from headstock import attend, explain
from headstock.attention.flash.core import flash_core
from headstock.attention.flash.packages import _LOADED, PACKAGES, load_flash_kernel, look
from headstock.errors import InvalidConfig, MissingDependency, UnsupportedFeature
from tests.support.flash_cases import entry_on_cpu, interface_of
from tests.support.flash_stand_in import Flash2, Flash3, installed

QUERY = torch.randn(1, 2, 5, 8)
TABLE = interface_of("flash", entry_on_cpu(2))


class Hub(ModuleType):
    """The package `kernels`, with one kernel."""

    def __init__(self, kernel: ModuleType) -> None:
        super().__init__("kernels")
        self.kernel = kernel
        self.asked: list[Any] = []

    def get_kernel(self, repository: str, version: int | None = None) -> ModuleType:
        self.asked.append((repository, version))
        return self.kernel


@pytest.fixture(autouse=True)
def _nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headstock.attention.flash.packages._LOADED", _LOADED)
    _LOADED.clear()


@pytest.mark.parametrize("generation", [2, 3, 4])
def test_absent_it_says_how_to_install_it(generation: int) -> None:
    name = f"flash_attention_{generation}"
    table = interface_of(name, entry_on_cpu(generation))
    package = PACKAGES[generation]
    with pytest.raises(MissingDependency, match=f"{name}' must have {package.module} or kernels .*{package.install}"):
        attend(QUERY, QUERY, QUERY, implementation=name, interface=table)
    with pytest.raises(MissingDependency, match=rf"{name} must have {package.module} installed, .*{package.install}"):
        flash_core(generation)(QUERY, QUERY, QUERY, None, scaling=1.0)


def test_a_package_that_cannot_be_imported_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "flash_attn.py").write_text("raise ImportError('undefined symbol: _ZN3c10')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnsupportedFeature, match=r"cannot import flash_attn \(undefined symbol: _ZN3c10"):
        attend(QUERY, QUERY, QUERY, implementation="flash", interface=TABLE)


def test_a_kernel_of_the_hub_is_loaded_for_a_call_that_names_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with installed(Flash2) as stand_in:
        pass
    hub = Hub(stand_in.module)
    monkeypatch.setitem(sys.modules, "kernels", hub)
    told = "is not loaded (load_flash_kernel('flash_attention_2') loads kernels-community/flash-attn2 from the hub)"
    assert explain(QUERY, QUERY, QUERY, interface=TABLE).rejected["flash"] == (told,)
    attend(QUERY, QUERY, QUERY, implementation="auto", interface=TABLE)
    assert not hub.asked
    attend(QUERY, QUERY, QUERY, implementation="flash", interface=TABLE)
    attend(QUERY, QUERY, QUERY, implementation="flash", interface=TABLE)
    assert hub.asked == [("kernels-community/flash-attn2", 4)]
    assert len(stand_in.calls) == 2
    assert load_flash_kernel("flash_attention_2", version=3) == "kernels-community/flash-attn2 of the hub"
    assert hub.asked[1:] == [("kernels-community/flash-attn2", 3)]


def test_a_package_goes_before_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    with installed(Flash2) as other:
        pass
    monkeypatch.setitem(sys.modules, "kernels", Hub(other.module))
    load_flash_kernel("flash_attention_2", repository="someone/kernel", version=1)
    with installed(Flash2) as stand_in:
        attend(QUERY, QUERY, QUERY, implementation="flash", interface=TABLE)
    assert (len(stand_in.calls), len(other.calls)) == (1, 0)


def test_a_package_without_the_function_leaves_it_to_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    # As of flash-attn-4 alone, whose folder is the package flash_attn.
    with installed(Flash2) as other:
        pass
    monkeypatch.setitem(sys.modules, "kernels", Hub(other.module))
    load_flash_kernel("flash_attention_2")
    monkeypatch.setitem(sys.modules, "flash_attn", ModuleType("flash_attn"))
    assert not isinstance(look(2), str)


def test_another_module_is_read_anew() -> None:
    for version in (Flash3, Flash3):
        with installed(version) as stand_in:
            found = look(3)
            assert not isinstance(found, str)
            assert found.packed is stand_in.module.flash_attn_varlen_func


def test_what_cannot_be_loaded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidConfig, match=r"name must be one of flash_attention_2, .* got 'sdpa'"):
        load_flash_kernel("sdpa")
    with pytest.raises(MissingDependency, match="kernels must be installed to load flash_attention_2 from the hub"):
        load_flash_kernel("flash_attention_2")
    monkeypatch.setitem(sys.modules, "kernels", Hub(ModuleType("empty")))
    with pytest.raises(
        MissingDependency, match="must have flash_attn_varlen_func, got kernels-community/flash-attn3 w"
    ):
        load_flash_kernel("flash_attention_3")
