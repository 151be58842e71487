"""GPT-2 (Radford et al. 2019): the decoder with its language-model head."""

from headstock.models.gpt2.config import GPT2Config
from headstock.models.gpt2.model import ATTENTION, GPT2LMHeadModel, GPT2Output

__all__ = ["ATTENTION", "GPT2Config", "GPT2LMHeadModel", "GPT2Output"]
