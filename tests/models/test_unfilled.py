"""Modules without numbers: no memory, no random draws, no compiler imported."""

import subprocess
import sys

import torch
from torch import nn

from headstock.layers import Conv1D
from headstock.models.unfilled import unfilled


def test_modules_made_inside_have_no_numbers_and_leave_the_generator_alone() -> None:
    before = torch.get_rng_state()
    with unfilled():
        made = [nn.Linear(2, 3), nn.Embedding(4, 5, padding_idx=0), nn.LayerNorm(3), Conv1D(2, 3)]
    assert all(parameter.is_meta for module in made for parameter in module.parameters())
    assert torch.equal(torch.get_rng_state(), before)


def test_modules_made_afterwards_have_numbers() -> None:
    with unfilled():
        pass
    weight = nn.Linear(200, 3).weight
    # Uniform draws lie in +-1 / sqrt(200); 600 of them all below a tenth of that is impossible.
    assert 0.1 / 200**0.5 < weight.abs().max() <= 1 / 200**0.5


def test_the_compiler_is_not_imported() -> None:
    code = (
        "import sys, torch\n"
        "from headstock.models.unfilled import unfilled\n"
        "with unfilled():\n"
        "    layer = torch.nn.Linear(2, 3)\n"
        "    torch.nn.init.normal_(layer.weight)\n"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
