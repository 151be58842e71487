"""The optional package: asked for when it is needed, missed politely."""

import sys
from pathlib import Path

import pytest

from headstock.errors import MissingDependency
from headstock.masks import Geometry, causal, draw
from headstock.masks.drawing.package import matplotlib_package

DRAWING = draw(causal(), Geometry(1, 3, 3))


def test_the_package_is_found() -> None:
    assert matplotlib_package().__name__ == "matplotlib"


def test_without_it_an_image_says_what_to_install_and_text_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    rule = (
        r"^the package matplotlib must be installed to draw a mask as an image, got none; "
        r"pip install 'headstock\[draw\]', or use the drawing in text, str\(drawing\)$"
    )
    for act in (DRAWING.svg, DRAWING.png, lambda: DRAWING.save(tmp_path / "x.png")):
        with pytest.raises(MissingDependency, match=rule):
            act()
    assert DRAWING._repr_svg_() is None
    assert "█ █ ·" in str(DRAWING)
    assert not list(tmp_path.iterdir())


def test_a_package_that_it_misses_itself_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("import surely_absent")
    monkeypatch.delitem(sys.modules, "matplotlib", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="surely_absent") as caught:
        DRAWING.png()
    assert not isinstance(caught.value, MissingDependency)
