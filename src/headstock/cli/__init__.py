"""The `headstock` command; without its extra it says what to install."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its status: 0 when all went well, 1 for a refusal or a failed check."""
    try:
        from headstock.cli.app import run

        run()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in {"rich", "typer"}:
            raise
        print(
            f"the headstock command needs the package {package}, which is not installed; "
            "install its extra: pip install 'headstock[cli]'",
            file=sys.stderr,
        )
        raise SystemExit(1) from None
