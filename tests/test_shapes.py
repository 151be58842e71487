"""The run-time check of shapes, on a package written for it: right, wrong, compiled, and in every kind of holder."""

import importlib
import inspect
import os
import pickle
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError

from headstock.errors import InvalidShape
from tests.support import shapes

SOURCE = '''
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headstock.errors import InvalidShape

if TYPE_CHECKING:
    from decimal import Decimal


def add(left: Float[Tensor, "rows columns"], right: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """Add."""
    return left + right


def lies(values: Float[Tensor, "rows columns"]) -> Float[Tensor, "columns rows"]:
    return values


def refuses(values: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    if values.ndim != 2:
        raise InvalidShape(f"values must have two axes, got {values.ndim}; add or remove one")
    return values


def calls_lies(values: Float[Tensor, "rows columns"]) -> Float[Tensor, "columns rows"]:
    return lies(values).T


def quoted(values: "Float[Tensor, 'rows'] | None", exact: "Decimal | None" = None) -> "Later | None":
    return None


def untyped_rest(values: Float[Tensor, "rows"], scaling: float) -> float:
    return scaling


def yields(values: Float[Tensor, "rows"]) -> Iterator[Float[Tensor, ""]]:
    yield from values


def plain(count: int) -> int:
    return count


def outer() -> object:
    def inner(values: Float[Tensor, "rows"]) -> Float[Tensor, "rows"]:
        return values

    return inner


@torch.library.custom_op("headstock_shapes_sample::twice", mutates_args=(), schema="(Tensor values) -> Tensor")
def twice(values: Float[Tensor, "rows"]) -> Float[Tensor, "rows"]:
    return values * 2


@twice.register_fake
def twice_fake(values: Float[Tensor, "rows"]) -> Float[Tensor, "rows"]:
    return torch.empty_like(values)


class Pair(NamedTuple):
    left: Float[Tensor, "rows"]
    right: Float[Tensor, "rows"] | None = None
    name: "Later | None" = None


@dataclass(frozen=True)
class Single:
    only: Float[Tensor, "rows"]


def pair(left: Float[Tensor, "rows"], right: Float[Tensor, "columns"]) -> Pair:
    return Pair(left, right)


def unpack(single: Single) -> Pair:
    return Pair(single.only)


TABLE = {"add": add}


class Later:
    pass


class Holder(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, values: Float[Tensor, "batch {self.width}"]) -> Float[Tensor, "batch"]:
        return values.sum(-1)

    @classmethod
    def of(cls, values: Float[Tensor, "rows width"]) -> "Holder":
        return cls(values.shape[-1])

    @staticmethod
    def first(values: Float[Tensor, "rows"]) -> Float[Tensor, ""]:
        return values[0]

    @property
    def zeros(self) -> Float[Tensor, "two width"]:
        return torch.zeros(self.width)
'''


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    folder = tmp_path_factory.mktemp("packages")
    package = folder / "shapes_sample"
    package.mkdir()
    (package / "__init__.py").write_text(textwrap.dedent(SOURCE))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HEADSTOCK_SHAPES", raising=False)
        patch.syspath_prepend(folder)
        finder = shapes.install("shapes_sample")
        assert finder is not None
        try:
            yield importlib.import_module("shapes_sample")
        finally:
            shapes.uninstall(finder)
            sys.modules.pop("shapes_sample", None)


def test_right_shapes_pass_through(sample: ModuleType) -> None:
    left, right = torch.randn(2, 3), torch.randn(2, 3)
    torch.testing.assert_close(sample.add(left, right), left + right, rtol=0, atol=0)


def test_arguments_that_disagree_on_an_axis_raise(sample: ModuleType) -> None:
    with pytest.raises(TypeCheckError, match=r"parameters of shapes_sample\.add"):
        sample.add(torch.randn(2, 3), torch.randn(1, 3))  # broadcasts, so that torch itself says nothing


def test_a_wrong_dtype_raises(sample: ModuleType) -> None:
    with pytest.raises(TypeCheckError, match=r"parameters of shapes_sample\.lies"):
        sample.lies(torch.ones(2, 2, dtype=torch.int64))


def test_a_result_of_another_shape_than_promised_raises(sample: ModuleType) -> None:
    with pytest.raises(TypeCheckError, match=r"return value of shapes_sample\.lies"):
        sample.lies(torch.randn(2, 3))


def test_a_wrong_shape_inside_another_call_is_told_of_the_inner_function(sample: ModuleType) -> None:
    with pytest.raises(TypeCheckError, match=r"return value of shapes_sample\.lies"):
        sample.calls_lies(torch.randn(2, 3))


def test_arguments_that_the_function_refuses_itself_get_its_own_error(sample: ModuleType) -> None:
    with pytest.raises(InvalidShape, match="values must have two axes, got 3"):
        sample.refuses(torch.randn(2, 3, 4))


def test_annotations_in_quotes_are_checked_and_those_for_the_type_checker_alone_are_not(sample: ModuleType) -> None:
    assert sample.quoted(None, exact=1.5) is None
    with pytest.raises(TypeCheckError, match="values"):
        sample.quoted(torch.randn(2, 3))


def test_what_states_no_shape_is_left_to_the_type_checker(sample: ModuleType) -> None:
    assert sample.untyped_rest(torch.randn(3), scaling=2) == 2
    assert not hasattr(sample.plain, "__wrapped__")
    assert not hasattr(sample.yields, "__wrapped__")
    assert not hasattr(sample.outer(), "__wrapped__")


def test_the_fields_of_a_returned_record_must_agree_with_each_other(sample: ModuleType) -> None:
    assert sample.pair(torch.randn(3), torch.randn(3)).right is not None
    with pytest.raises(TypeCheckError, match=r"Pair\.right must be .*got torch.float32 \(4,\) in shapes_sample\.pair"):
        sample.pair(torch.randn(3), torch.randn(4))


def test_the_fields_of_a_record_taken_are_checked(sample: ModuleType) -> None:
    assert sample.unpack(sample.Single(torch.randn(3))).left.shape == (3,)
    with pytest.raises(TypeCheckError, match=r"Single\.only must be .*got torch.float32 \(2, 3\) in shapes_sample"):
        sample.unpack(sample.Single(torch.randn(2, 3)))


def test_a_table_in_the_same_module_holds_the_checked_function(sample: ModuleType) -> None:
    assert sample.TABLE["add"] is sample.add


def test_methods_of_every_kind_are_checked(sample: ModuleType) -> None:
    assert sample.Holder.of(torch.randn(2, 3)).width == 3
    assert sample.Holder(3)(torch.randn(2, 3)).shape == (2,)
    with pytest.raises(TypeCheckError, match=r"Holder\.of"):
        sample.Holder.of(torch.randn(3))
    with pytest.raises(TypeCheckError, match=r"Holder\.first"):
        sample.Holder.first(torch.randn(3, 2))
    with pytest.raises(TypeCheckError, match=r"Holder\.forward"):
        sample.Holder(3)(torch.randn(2, 4))
    with pytest.raises(TypeCheckError, match=r"Holder\.zeros"):
        sample.Holder(3).zeros  # noqa: B018 - the property's getter is what is called


def test_a_checked_function_keeps_its_signature_source_and_place(sample: ModuleType) -> None:
    assert list(inspect.signature(sample.add).parameters) == ["left", "right"]
    assert sample.add.__doc__ == "Add."
    assert inspect.getsource(sample.add).startswith("def add(left")
    assert Path(sample.add.__code__.co_filename) == Path(str(sample.__file__))
    assert sample.add.__code__.co_firstlineno == 1 + SOURCE.splitlines().index(
        inspect.getsource(sample.add).splitlines()[0]
    )
    assert pickle.loads(pickle.dumps(sample.add)) is sample.add


def test_compiling_with_fullgraph_steps_aside(sample: ModuleType) -> None:
    left, right = torch.randn(2, 3), torch.randn(1, 3)
    add: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = sample.add
    compiled = torch.compile(add, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(left, right), left + right, rtol=0, atol=0)


def test_more_checked_functions_compile_than_the_recompilation_limit(sample: ModuleType) -> None:
    values = torch.randn(2, 2)
    for _ in range(torch._dynamo.config.recompile_limit + 1):
        fresh = shapes.check_shapes(_copy(sample.lies.__wrapped__))
        assert hasattr(fresh, "__wrapped__")
        torch.testing.assert_close(torch.compile(fresh, fullgraph=True, backend="eager")(values), values)


def _copy(function: Callable[..., Any]) -> Callable[..., Any]:
    assert inspect.isfunction(function)
    copy = FunctionType(function.__code__.replace(), function.__globals__, function.__name__)
    copy.__annotations__ = dict(function.__annotations__)
    return copy


def test_an_operator_keeps_its_schema_and_its_fake(sample: ModuleType) -> None:
    values = torch.randn(3)
    compiled = torch.compile(lambda tensor: sample.twice(tensor) + 1, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(values), values * 2 + 1, rtol=0, atol=0)


def test_tensors_without_data_are_not_checked(sample: ModuleType) -> None:
    with torch._subclasses.fake_tensor.FakeTensorMode():
        assert sample.lies(torch.empty(2, 3)).shape == (2, 3)


@pytest.mark.skipif(os.environ.get("HEADSTOCK_SHAPES") == "0", reason="switched off by HEADSTOCK_SHAPES=0")
def test_headstock_itself_is_watched() -> None:
    finders = [each for each in sys.meta_path if isinstance(each, shapes.ShapeFinder)]
    assert "headstock" in [each.package for each in finders]


def test_the_environment_switches_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTOCK_SHAPES", "0")
    before = list(sys.meta_path)
    assert shapes.install("shapes_sample_off") is None
    assert sys.meta_path == before


def test_watching_a_package_that_is_already_imported_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADSTOCK_SHAPES", raising=False)
    with pytest.raises(RuntimeError, match="shapes of headstock must be watched before it is imported"):
        shapes.install("headstock")
