import pytest

from headstock.errors import InvalidComponent
from headstock.layers.checkpointing import CheckpointFunction, CheckpointReport, Layers, check_policy


class Policy:
    def __call__(self, layers: Layers, *, use_reentrant: bool = False) -> dict[str, CheckpointFunction]:
        return {}


def test_functions_and_callable_objects_are_policies() -> None:
    check_policy("object", Policy())
    check_policy("function", lambda layers, use_reentrant=False: {})
    check_policy("open", lambda layers, **options: {})


@pytest.mark.parametrize("wrong", [Policy, 3, "full", None])
def test_what_is_not_called_is_refused(wrong: object) -> None:
    with pytest.raises(
        InvalidComponent, match="checkpoint policy 'mine' must be a function or an object that is called, g"
    ):
        check_policy("mine", wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda *, use_reentrant: {},
        lambda layers: {},
        lambda *, layers, use_reentrant: {},
        lambda layers, k, *, use_reentrant: {},
    ],
)
def test_a_wrong_signature_is_refused(wrong: object) -> None:
    told = r"checkpoint policy 'mine' must take \(layers, \*, use_reentrant, ...\), further options with a default, got"
    with pytest.raises(InvalidComponent, match=told):
        check_policy("mine", wrong)


def test_a_report_reads_well() -> None:
    assert str(CheckpointReport("full", ("a", "b"), ("c",))) == "full: 2 of 3 layers checkpointed (a, b)"
