"""What the demo shows and what it holds to: rich tables, and checks that decide the exit status."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

__all__ = ["Check", "Report"]


@dataclass(frozen=True)
class Check:
    """One measured number and the bound that it must keep.

    Attributes:
        what: what was compared.
        value: the number.
        limit: the bound, derived and not tuned.
        why: where the bound comes from.
        below: whether the value must be at most `limit`; False: above it.
    """

    what: str
    value: float
    limit: float
    why: str
    below: bool = True

    @property
    def holds(self) -> bool:
        """Whether the bound is kept; never for a NaN."""
        return self.value <= self.limit if self.below else self.value > self.limit

    @property
    def rule(self) -> str:
        """The bound in words."""
        return f"{'at most' if self.below else 'above'} {self.limit:.3g}"


@dataclass
class Report:
    """Prints to a console and remembers the checks."""

    console: Console
    checks: list[Check] = field(default_factory=list)
    shown: int = 0
    started: float = field(default_factory=time.perf_counter)

    def chapter(self, title: str, text: str) -> None:
        """Start a chapter, after the checks of the one before."""
        self._show_checks()
        self.console.print()
        self.console.rule(f"[bold]{title}")
        self.console.print(text)

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Show that something takes its time, then how long it took."""
        started = time.perf_counter()
        with self.console.status(f"{what} ..."):
            yield
        self.console.print(f"[dim]{what}: {time.perf_counter() - started:.1f} s")

    def table(self, title: str, header: list[str], rows: list[list[str]]) -> None:
        """Print a table; columns after the first are numbers."""
        table = Table(title=title, title_justify="left")
        for index, name in enumerate(header):
            table.add_column(name, justify="right" if index else "left")
        for row in rows:
            table.add_row(*row)
        self.console.print(table)

    def check(self, what: str, value: float, limit: float, why: str, *, below: bool = True) -> None:
        """Hold a number to a bound; shown at the end of the chapter."""
        self.checks.append(Check(what, value, limit, why, below))

    def finish(self) -> bool:
        """Sum up; whether every check holds."""
        self._show_checks()
        failed = [check for check in self.checks if not check.holds]
        self.console.print()
        self.console.rule("[bold]Summary")
        if failed:
            self.console.print(_checks(failed))
        seconds = time.perf_counter() - self.started
        self.console.print(f"{len(self.checks) - len(failed)} of {len(self.checks)} checks hold, {seconds:.0f} s")
        return not failed

    def _show_checks(self) -> None:
        if self.shown < len(self.checks):
            self.console.print(_checks(self.checks[self.shown :]))
        self.shown = len(self.checks)


def _checks(checks: list[Check]) -> Table:
    table = Table("", "check", "found", "must be", "because")
    for check in checks:
        mark = "[green]holds[/]" if check.holds else "[bold red]FAILS[/]"
        table.add_row(mark, check.what, f"{check.value:.3g}", check.rule, check.why)
    return table
