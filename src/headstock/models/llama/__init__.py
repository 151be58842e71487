"""Llama (Touvron et al. 2023, arXiv:2302.13971) and its relatives: Mistral, Qwen 2 and 3, SmolLM 2 and 3."""

from headstock.models.llama.config import LlamaConfig
from headstock.models.llama.model import ATTENTION, ROPE, LlamaForCausalLM, LlamaOutput

__all__ = ["ATTENTION", "ROPE", "LlamaConfig", "LlamaForCausalLM", "LlamaOutput"]
