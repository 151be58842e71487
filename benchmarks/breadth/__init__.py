"""Which language architectures of transformers compute the same with headstock as with their own eager attention."""

from benchmarks.breadth.cases import Case, cases
from benchmarks.breadth.checking import Verdict, check

__all__ = ["Case", "Verdict", "cases", "check"]
