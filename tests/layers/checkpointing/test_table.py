import copy
import pickle

import pytest

from headstock.errors import DuplicateName, InvalidComponent
from headstock.layers.checkpointing import ALL_CHECKPOINT_POLICIES, CHECKPOINT_POLICIES, CheckpointPolicyInterface
from headstock.layers.checkpointing.policies import every_k, full, offload, selective


def test_the_built_in_policies_have_their_names() -> None:
    assert dict(ALL_CHECKPOINT_POLICIES) == {
        "every_k": every_k,
        "full": full,
        "offload": offload,
        "selective": selective,
    }


def test_a_taken_name_is_refused() -> None:
    with pytest.raises(DuplicateName, match="a checkpoint policy must have a name of its own, got 'full'"):
        CheckpointPolicyInterface.register("full", every_k)


def test_a_class_is_refused() -> None:
    with pytest.raises(
        InvalidComponent, match="checkpoint policy 'mine' must be a function or an object that is called"
    ):
        CheckpointPolicyInterface()["mine"] = dict


def test_copies_share_the_shared_table() -> None:
    local = CheckpointPolicyInterface()
    local["mine"] = every_k
    for other in (copy.deepcopy(local), pickle.loads(pickle.dumps(local))):
        assert other.parent is CHECKPOINT_POLICIES
        assert other["mine"] is every_k
