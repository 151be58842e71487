"""`headstock explain` tells of a call by its sizes, for devices that are here and for those that are not."""

import pytest
import torch

from headstock import explain
from headstock.cli.explain import Request
from headstock.masks import causal, sliding_window
from tests.support.command import Command


def told(command: Command, *arguments: str) -> list[str]:
    done = command("explain", *arguments)
    assert (done.status, done.err) == (0, "")
    return [" ".join(line.split()) for line in done.out.splitlines()]


def test_it_tells_what_the_call_would_run(command: Command) -> None:
    query, key, value = torch.randn(1, 4, 300, 16), *torch.randn(2, 1, 2, 300, 16)
    mask = causal() & sliding_window(20)
    expected = explain(query, key, value, mask=mask)
    lines = told(command, "--shape", "1,4,300,300,16", "--kv-heads", "2", "--mask", "causal & sliding_window(20)")
    assert lines[0] == "name about what of it"
    assert lines[1].startswith(expected.chosen)
    assert lines[1].endswith("chosen")
    assert (
        f"mask: {expected.representation}, {expected.bytes:,} bytes; {expected.density:.2%} of the pairs visible"
        in lines
    )
    assert f"sdpa: {expected.kernels}" in lines
    assert "costs: headstock's own figures" in lines


def test_features_are_asked_for(command: Command) -> None:
    every = ("--softcap", "30", "--dropout", "0.1", "--sinks", "--lse", "--weights", "--training")
    lines = told(command, "--shape", "1,4,16,16,16", "--dtype", "bfloat16", *every)
    assert lines[1].startswith("eager")
    text = " ".join(lines)
    for feature in ("dropout", "log_sum_exp", "sinks", "softcap", "weights"):
        assert f"does not honour {feature}" in text


def test_a_device_that_is_not_here_is_told_of_from_declarations(command: Command) -> None:
    sizes = ("--shape", "1,8,4096,4096,128", "--device", "cuda", "--dtype", "bfloat16")
    lines = told(command, *sizes)
    assert any(line.startswith("sdpa") for line in lines)
    assert "sdpa: takes torch's fused flash kernel" in lines
    assert "sdpa: takes torch's fused efficient kernel" in told(
        command, *sizes, "--mask", "causal & sliding_window(512)"
    )


def test_tensors_are_named_in_the_mask(command: Command) -> None:
    lines = told(command, "--shape", "2,2,4,4,8", "--mask", "documents(ids)", "--tensor", "ids=0,0,1,1")
    assert any("50.00% of the pairs visible" in line for line in lines)


def test_one_that_is_named_is_told_of(command: Command) -> None:
    lines = told(command, "--shape", "1x2x4x4x8", "--attention", "eager", "--value-dim", "3")
    assert lines[1].startswith("eager")
    assert any("but 'eager' was named" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ("--shape", "1,2,3"),
            "--shape must be batch,heads,queries,keys,head_dim, five positive integers, got '1,2,3'",
        ),
        (("--shape", "1,2,3,4,0"), "five positive integers, got '1,2,3,4,0'"),
        (("--shape", "1,2,3,4,x"), "five positive integers, got '1,2,3,4,x'"),
        (("--shape", "1,4,4,4,8", "--kv-heads", "3"), "--kv-heads must divide the heads, 4, got 3"),
        (("--shape", "1,4,4,4,8", "--device", "abacus"), "--device must be a device of torch, got 'abacus'"),
        (("--shape", "1,4,4,4,8", "--mask", "casual"), "did you mean 'causal'?"),
        (("--shape", "1,4,4,4,8", "--softcap", "-1"), "softcap must be positive and finite"),
    ],
)
def test_what_is_not_understood_is_refused(command: Command, arguments: tuple[str, ...], text: str) -> None:
    done = command("explain", *arguments)
    assert (done.status, done.out) == (2, "")
    assert text in done.err


def test_a_named_one_that_cannot_is_an_error(command: Command) -> None:
    done = command("explain", "--shape", "1,4,4,4,8", "--attention", "sdpa", "--softcap", "3")
    assert done.status == 1
    assert "'sdpa', which does not honour softcap" in done.err


def test_a_request_has_the_defaults_of_a_plain_call() -> None:
    assert Request(shape="1,1,1,1,1").implementation == "auto"
