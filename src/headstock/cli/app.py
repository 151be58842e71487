"""The commands, each a thin shell around what the library does."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from headstock.errors import HeadstockError

__all__ = ["app", "run"]

app = typer.Typer(
    name="headstock",
    help="Attention functions, masks and layers as named, interchangeable components.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def run() -> None:
    """Run the command in `sys.argv`; a refusal is one line, not a traceback."""
    try:
        app(prog_name="headstock")
    except HeadstockError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _show_version(wanted: bool) -> None:
    if wanted:
        from headstock import __version__

        print(f"headstock {__version__}")
        raise typer.Exit


@app.callback()
def headstock(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Attention functions, masks and layers as named, interchangeable components."""


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A .bin, .pt or .pth file, or a folder that holds pytorch_model.bin.")],
    folder: Annotated[Path, typer.Argument(help="Where model.safetensors and config.json go.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there already.")] = False,
) -> None:
    """Turn a pickled checkpoint into safetensors; nothing in the pickle is run."""
    from headstock.models.conversion import convert as convert_checkpoint

    made = convert_checkpoint(source, folder, force=force)
    print(f"{made.weights}: {made.tensors} tensors")
    for name, kept in made.shared.items():
        print(f"  {name} shares the numbers of {kept}, written once")
    print(f"{made.config}: in place" if made.config else f"no config.json beside the source: put one into {folder}")


@app.command()
def demo() -> None:
    """Run real models with interchangeable components and check every equality (under a minute)."""
    from headstock.cli.demo import tell

    raise typer.Exit(0 if tell() else 1)
