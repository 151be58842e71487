"""MiniLM as a sentence encoder: tokens, hidden states, mean pooling, cosines."""

from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from headstock.errors import MissingDependency
from headstock.models.bert import BertModel

__all__ = ["PAIRS", "SENTENCES", "cosines", "hidden_states", "tokenized"]

SENTENCES = (
    "A man is playing a guitar.",
    "Somebody strums an acoustic guitar.",
    "The central bank raised interest rates.",
    "Monetary policy was tightened by the Fed.",
    "My cat sleeps on the warm windowsill all afternoon, and nobody dares to wake her.",
)
PAIRS = ((0, 1), (2, 3), (0, 2), (1, 4), (3, 4))


def tokenized(folder: Path) -> tuple[Int[Tensor, "batch tokens"], Bool[Tensor, "batch tokens"]]:
    """Ids of the sentences, padded on the right to one length, and which of them are no padding.

    Raises:
        MissingDependency: the package `tokenizers` is not installed.
    """
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError:
        raise MissingDependency(
            "the package tokenizers must be installed to read sentences, got none; pip install 'headstock[cli]'"
        ) from None
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(list(SENTENCES))
    ids = torch.tensor([each.ids for each in encoded])
    return ids, torch.tensor([each.attention_mask for each in encoded]).bool()


@torch.no_grad()
def hidden_states(
    model: BertModel, ids: Int[Tensor, "batch tokens"], keep: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, "batch tokens hidden"]:
    """The last hidden states, 0 for padding."""
    hidden: Tensor = model(ids, keep).last_hidden_state
    return hidden * keep[:, :, None]


def cosines(
    hidden: Float[Tensor, "batch tokens hidden"], keep: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, "batch batch"]:
    """Similarity of the sentences: cosine of the mean states."""
    mean = hidden.sum(1) / keep.sum(1, keepdim=True)
    unit = functional.normalize(mean, dim=-1)
    return unit @ unit.T
