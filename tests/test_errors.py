import inspect
import pickle

import pytest

from headstock import errors
from headstock.errors import HeadstockError, UnknownName

WARNINGS = {"ConfigWarning": UserWarning}
CLASSES = [getattr(errors, name) for name in errors.__all__ if name not in WARNINGS]
BUILT_INS = {
    "BrokenPlugin": ImportError,
    "DuplicateName": ValueError,
    "FrozenTable": RuntimeError,
    "InvalidComponent": TypeError,
    "InvalidConfig": ValueError,
    "InvalidShape": ValueError,
    "MisplacedScope": RuntimeError,
    "MissingDependency": ImportError,
    "UnknownName": KeyError,
    "UnknownVariant": KeyError,
    "UnsupportedFeature": ValueError,
    "WrongResult": ArithmeticError,
}


def test_every_class_of_the_module_is_public_and_sorted() -> None:
    defined = [name for name, each in vars(errors).items() if inspect.isclass(each)]
    assert sorted(defined) == errors.__all__ == sorted([*BUILT_INS, *WARNINGS, "HeadstockError"])


@pytest.mark.parametrize("error", CLASSES)
def test_an_error_is_the_built_in_that_its_callers_expect_and_one_of_ours(error: type[Exception]) -> None:
    expected = BUILT_INS.get(error.__name__, Exception)
    assert issubclass(error, HeadstockError)
    assert issubclass(error, expected)


@pytest.mark.parametrize("name", WARNINGS)
def test_a_warning_is_the_built_in_that_filters_expect_and_no_error_of_ours(name: str) -> None:
    assert issubclass(getattr(errors, name), WARNINGS[name])
    assert not issubclass(getattr(errors, name), HeadstockError)


@pytest.mark.parametrize("error", CLASSES)
def test_an_error_prints_its_text_as_it_is_and_pickles(error: type[Exception]) -> None:
    text = "size must be positive, got 'none'; say \"how many\""
    assert str(error(text)) == text
    assert str(pickle.loads(pickle.dumps(error(text)))) == text


def test_an_unknown_variant_is_a_wrong_configuration_too() -> None:
    assert issubclass(errors.UnknownVariant, errors.InvalidConfig)
    assert issubclass(errors.UnknownVariant, ValueError)
    assert issubclass(errors.UnknownVariant, UnknownName)


def test_an_unknown_name_without_a_text_prints_nothing() -> None:
    assert str(UnknownName()) == ""
