"""`python -m benchmarks.matrix`: runs the matrix and writes docs/attention-matrix.md."""

import argparse
from collections.abc import Sequence

import torch

from benchmarks.matrix.cells import cells_of, names
from benchmarks.matrix.page import PAGE, page, stored, write_cells


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every cell on the CPU, and on a CUDA device where there is one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matrix", description=__doc__)
    parser.add_argument("--print", action="store_true", help="print the page and leave the file alone")
    options = parser.parse_args(arguments)
    if torch.cuda.is_available() and not options.print:
        write_cells("cuda", torch.cuda.get_device_name(), cells_of(torch.device("cuda"), names()))
    text = page(cells_of(torch.device("cpu"), names()), stored())
    if options.print:
        print(text, end="")
        return
    PAGE.write_text(text, encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
