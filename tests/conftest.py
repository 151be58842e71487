"""What holds for every test: one thread, no network, seeded randomness, checked shapes, hypothesis profiles."""

import contextlib
import os
import pickle
import sys
from collections.abc import Generator, Iterator
from typing import Any

# Read when torch and its libraries are first imported. Two workers share two cores, so each keeps to one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HEADSTOCK_TUNED"] = ""  # what auto chooses does not depend on what was measured on this machine

import hypothesis
import pytest
import torch

from tests.support import shapes
from tests.support.products import exact_products

shapes.install()
torch.set_num_threads(1)


class TorchRandom:
    """torch's default generator in the form of `random`, so that a failing example repeats with its tensors."""

    def seed(self, value: int) -> None:
        torch.manual_seed(value)

    def getstate(self) -> bytes:
        return pickle.dumps(torch.get_rng_state())

    def setstate(self, state: bytes) -> None:
        torch.set_rng_state(pickle.loads(state))


TORCH_RANDOM = TorchRandom()  # hypothesis keeps a weak reference
hypothesis.register_random(TORCH_RANDOM)
# No deadline: the first call of an operator loads kernels, and tests share the machine.
_SHARED: dict[str, Any] = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("ci", derandomize=True, max_examples=50, print_blob=True, **_SHARED)
hypothesis.settings.register_profile("dev", max_examples=50, print_blob=True, **_SHARED)
hypothesis.settings.register_profile("thorough", max_examples=1000, print_blob=True, **_SHARED)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


@pytest.fixture(autouse=True)
def _repeatable() -> Iterator[None]:
    """Seed torch before each test, and leave nothing behind for the next.

    What was compiled is forgotten, since recompilation limits count across tests; what was installed into transformers
    must be taken out again by the test itself.
    """
    torch.manual_seed(0)
    before = _installed()
    yield
    assert _installed() == before
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()


@pytest.fixture(autouse=True)
def _exact_products(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compute in full precision where a test runs on a CUDA device."""
    with contextlib.nullcontext() if request.node.get_closest_marker("cuda") is None else exact_products():
        yield


def _installed() -> tuple[str, ...]:
    module = sys.modules.get("headstock.integrations.transformers.installing")
    return module.installed() if module is not None else ()


@pytest.hookimpl(wrapper=True)
def pytest_collect_file() -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Look for no doctests in tests: the specimens that they hold need not bear being looked through."""
    found = yield
    return [each for each in found if type(each).__name__ != "DoctestModule"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a CUDA device where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda") is not None:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
