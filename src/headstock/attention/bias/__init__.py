"""Biases of the scores as forms: ALiBi, relative tables and buckets, and plain functions of the four indices."""

from headstock.attention.bias.alibi import Alibi, alibi, alibi_slopes
from headstock.attention.bias.contract import BIAS_FORMS, BoundBias, DistanceBias, ScoreBias
from headstock.attention.bias.evaluation import BiasFunction
from headstock.attention.bias.function import FunctionBias
from headstock.attention.bias.relative_buckets import RelativeBuckets, relative_buckets
from headstock.attention.bias.relative_table import RelativeTable, relative_table

__all__ = [
    "BIAS_FORMS",
    "Alibi",
    "BiasFunction",
    "BoundBias",
    "DistanceBias",
    "FunctionBias",
    "RelativeBuckets",
    "RelativeTable",
    "ScoreBias",
    "alibi",
    "alibi_slopes",
    "relative_buckets",
    "relative_table",
]
