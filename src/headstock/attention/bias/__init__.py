"""Biases of the scores as forms: ALiBi, relative tables and buckets, and plain functions of the four indices."""

from headstock.attention.bias.contract import BIAS_FORMS, BoundBias, DistanceBias, ScoreBias

__all__ = ["BIAS_FORMS", "BoundBias", "DistanceBias", "ScoreBias"]
