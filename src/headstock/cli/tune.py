"""`headstock tune`: measures what each attention function costs on this machine, and keeps it for `auto`."""

import sys
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table

from headstock.attention.auto.measured import DeviceTable, Measured
from headstock.attention.auto.profiles import forget_read, path_of_table
from headstock.attention.auto.tuning import tune
from headstock.attention.table import ALL_ATTENTION_FUNCTIONS
from headstock.cli.mask import USAGE
from headstock.errors import HeadstockError, InvalidConfig

__all__ = ["Request", "run"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for on the command line."""

    device: str = "cpu"
    quick: bool = False
    only: tuple[str, ...] = ()
    threads: int | None = None
    show: bool = False
    forget: bool = False


def run(request: Request) -> int:
    """Measure, show or forget; the exit status: 2 where something is refused."""
    try:
        if request.forget:
            _forget()
        elif request.show:
            _show(_read())
        else:
            _measure(request)
    except HeadstockError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    return 0


def _read() -> Measured:
    path = path_of_table()
    return Measured() if path is None or not path.is_file() else Measured.read(path)


def _forget() -> None:
    path = path_of_table()
    if path is None or not path.is_file():
        print("nothing was measured")
        return
    path.unlink()
    forget_read()
    print(f"{path}: gone")


def _measure(request: Request) -> None:
    if request.device != "cpu" and not _is_here(request.device):
        raise InvalidConfig(
            f"--device must be one of this machine, got {request.device!r}, which it does not have; name its type "
            "alone, cpu or cuda"
        )
    if path_of_table() is None:
        raise InvalidConfig("measurements must have a file to go to, got HEADSTOCK_TUNED empty; unset it")
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    console = Console(stderr=True, highlight=False)
    with console.status("timing ...") as status:
        table = tune(
            ALL_ATTENTION_FUNCTIONS,
            device=request.device,
            quick=request.quick,
            only=request.only,
            progress=lambda done, of, what: status.update(f"{done} of {of} calls: {what}"),
        )
    try:
        known = _read()
    except InvalidConfig:  # of another version, which this one replaces
        known = Measured()
    path = known.with_device(request.device, table).save()
    _show(Measured(devices={request.device: table}))
    print(f"kept in {path}")


def _is_here(device: str) -> bool:
    try:
        # A number beside the type is of one card: a table is of all that the type has.
        return torch.device(device).type == device and bool(torch.get_device_module(device).is_available())
    except RuntimeError:  # no type, or one that tensors without data alone have
        return False


def _show(measured: Measured) -> None:
    if not measured.devices:
        print("nothing was measured")
    for device, table in measured.devices.items():
        print(f"{device}: {table.name}, torch {table.torch_version}, {table.threads} threads")
        Console(highlight=False, soft_wrap=True).print(_rows(table))


def _rows(table: DeviceTable) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("row", "calls", "error", "microseconds for one of"):
        shown.add_column(heading)
    for words, row in sorted(table.rows.items()):
        units = ", ".join(f"{name} {value:.3g}" for name, value in row.items())
        error = table.error.get(words)
        shown.add_row(words, str(table.samples.get(words, "")), "" if error is None else f"{error:.0%}", units)
    return shown
