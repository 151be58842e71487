"""BERT (Devlin et al. 2018, arXiv:1810.04805): the encoder, with head pruning and chunked feed-forward."""

from headstock.models.bert.config import BertConfig
from headstock.models.bert.model import ATTENTION, BertModel, BertOutput

__all__ = ["ATTENTION", "BertConfig", "BertModel", "BertOutput"]
