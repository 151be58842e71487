"""Chapter 4: GPT-2 on microbiome samples, where a token is a bacterial genus."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from headstock.cli.demo import custom
from headstock.cli.demo.report import Report
from headstock.cli.demo.rounding import WHY, deviation, rounding_limit
from headstock.models.conversion import convert
from headstock.models.gpt2 import GPT2LMHeadModel

__all__ = ["GENERA", "load_gpt2", "perplexity", "show_perplexity"]

# Genera of the human gut, the common ones first, with their numbers in the vocabulary of MGM's tokenizer
# (microformer-mgm 0.5.8, mgm/resources/MicroTokenizer.pkl), which is a pickle and is not read here.
GENERA = {
    "Bacteroides": 964,
    "Faecalibacterium": 3317,
    "Prevotella": 7158,
    "Blautia": 1135,
    "Roseburia": 7829,
    "Bifidobacterium": 1095,
    "Ruminococcus": 7898,
    "Alistipes": 320,
    "Parabacteroides": 6350,
    "Coprococcus": 2259,
    "Dorea": 2924,
    "Collinsella": 2190,
    "Akkermansia": 266,
    "Streptococcus": 8597,
}
START, END, FIRST_GENUS = 2, 3, 4
RANDOM_LISTS = 10
NAMES = ("eager", "sdpa", custom.NAME)


def load_gpt2(report: Report, source: Path) -> tuple[GPT2LMHeadModel, GPT2LMHeadModel]:
    """Convert the checkpoint's pickle into a folder that is gone afterwards; the model in float32 and in float64."""
    with TemporaryDirectory(prefix="headstock-demo-") as folder:
        with report.working(f"converting {source.name}/pytorch_model.bin to safetensors"):
            made = convert(source, folder)
        shared = ", ".join(f"{name} is {kept}" for name, kept in made.shared.items())
        report.console.print(f"{made.tensors} tensors written; {shared}")
        with report.working("loading GPT-2 (8.9 million parameters)"):
            model = GPT2LMHeadModel.from_pretrained(folder, "eager")
            return model, GPT2LMHeadModel.from_pretrained(folder, "eager", dtype=torch.float64)


def lists(vocabulary: int) -> Int[Tensor, "lists tokens"]:
    """The gut's genera, then as many random genera in each of the other rows, all between start and end."""
    generator = torch.Generator().manual_seed(0)
    drawn = (torch.randperm(vocabulary - FIRST_GENUS, generator=generator) for _ in range(RANDOM_LISTS))
    rows = torch.stack([torch.tensor(list(GENERA.values())), *(each[: len(GENERA)] + FIRST_GENUS for each in drawn)])
    return functional.pad(functional.pad(rows, (1, 0), value=START), (0, 1), value=END)


def perplexity(
    logits: Float[Tensor, "lists tokens vocabulary"], ids: Int[Tensor, "lists tokens"]
) -> Float[Tensor, "lists"]:
    """Exp of the mean negative log-likelihood of each token given those before it."""
    losses = functional.cross_entropy(logits[:, :-1].transpose(1, 2).double(), ids[:, 1:], reduction="none")
    return losses.mean(-1).exp()


@torch.no_grad()
def show_perplexity(report: Report, model: GPT2LMHeadModel, exact: GPT2LMHeadModel) -> None:
    """Perplexity of a sensible list against random ones, under each function."""
    vocabulary = model.config.vocab_size
    ids = lists(vocabulary)
    with report.working(f"scoring {len(ids)} lists under {len(NAMES)} functions"):
        logits = {name: _under(model, name, ids) for name in NAMES}
        limit = rounding_limit(logits["eager"], exact(ids).logits)
    found = {name: perplexity(scored, ids) for name, scored in logits.items()}
    rows = [
        ["gut genera", *(f"{found[name][0]:.4f}" for name in NAMES)],
        ["random genera, median of 10 lists", *(f"{found[name][1:].median():.0f}" for name in NAMES)],
        ["random genera, best of 10 lists", *(f"{found[name][1:].min():.0f}" for name in NAMES)],
    ]
    report.console.print(f"gut genera: {', '.join(GENERA)}")
    report.table(f"Perplexity (a uniform guess: {vocabulary})", ["list", *NAMES], rows)
    for name in NAMES[1:]:
        report.check(f"logits, {name} - eager", deviation(logits[name], logits["eager"]), limit, WHY)
    sensible, best = found["eager"][0].item(), found["eager"][1:].min().item()
    report.check("perplexity of gut genera", sensible, vocabulary, "a uniform guess over the vocabulary")
    report.check("perplexity of random genera, the best", best, vocabulary, "a uniform guess", below=False)


def _under(model: GPT2LMHeadModel, name: str, ids: Tensor) -> Tensor:
    model.set_attention(name)
    logits: Tensor = model(ids).logits
    model.set_attention("eager")
    return logits
