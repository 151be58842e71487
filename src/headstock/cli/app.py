"""The commands, each a thin shell around what the library does."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from headstock.errors import HeadstockError, InvalidConfig

if TYPE_CHECKING:
    import torch

    from headstock.models.conversion import Conversion

__all__ = ["app", "run"]

CacheName = Literal["growing", "static", "sliding", "none"]
DtypeName = Literal["float32", "bfloat16", "float16"]
CallDtypeName = Literal["float32", "bfloat16", "float16", "float64"]
LayoutName = Literal["half_split", "interleaved"]

app = typer.Typer(
    name="headstock",
    help="Attention functions, masks and layers as named, interchangeable components.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def run() -> None:
    """Run the command in `sys.argv`; a refusal is one line, not a traceback."""
    try:
        app(prog_name="headstock")
    except HeadstockError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _show_version(wanted: bool) -> None:
    if wanted:
        from headstock import __version__

        print(f"headstock {__version__}")
        raise typer.Exit


@app.callback()
def headstock(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Attention functions, masks and layers as named, interchangeable components."""


@app.command()
def convert(
    source: Annotated[
        Path,
        typer.Argument(help="A .bin, .pt or .pth file, a folder that holds pytorch_model.bin, or a .gguf file."),
    ],
    folder: Annotated[Path, typer.Argument(help="Where model.safetensors, config.json and a tokenizer go.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there already.")] = False,
    dtype: Annotated[
        DtypeName | None, typer.Option(help="Of the weights of a .gguf file; float32 where nothing is said.")
    ] = None,
    rotary_layout: Annotated[
        LayoutName | None, typer.Option(help="Of a .gguf file; interleaved keeps the rows as they are stored.")
    ] = None,
) -> None:
    """Turn a pickled checkpoint or a GGUF file into safetensors; nothing in the file is run."""
    made = _converted(source, folder, dtype=dtype, rotary_layout=rotary_layout, force=force)
    print(f"{made.weights}: {made.tensors} tensors")
    for name, kept in made.shared.items():
        print(f"  {name} shares the numbers of {kept}, written once")
    print(f"{made.config}: in place" if made.config else f"no config.json beside the source: put one into {folder}")


def _converted(
    source: Path, folder: Path, *, dtype: DtypeName | None, rotary_layout: LayoutName | None, force: bool
) -> "Conversion":
    if source.suffix.lower() == ".gguf":
        from headstock.models.gguf import convert_gguf

        layout = "half_split" if rotary_layout is None else rotary_layout
        return convert_gguf(source, folder, dtype=_dtype(dtype or "float32"), rotary_layout=layout, force=force)
    if dtype is not None or rotary_layout is not None:
        raise InvalidConfig(
            f"--dtype and --rotary-layout must be left out where the source is no .gguf file, got {source}"
        )
    from headstock.models.conversion import convert as convert_checkpoint

    return convert_checkpoint(source, folder, force=force)


def _dtype(name: DtypeName) -> "torch.dtype":
    import torch

    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="The text to go on from.")],
    model: Annotated[
        Path | None,
        typer.Option(
            help="A folder with config.json, model.safetensors and tokenizer.json, or a .gguf file; SmolLM2 otherwise."
        ),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="The most tokens to generate; 64 where nothing is said, if they fit.")
    ] = None,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token; above 0 draws.")] = 0.0,
    top_k: Annotated[int | None, typer.Option(help="Draw from the k likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw from the likeliest tokens that sum to p.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the random numbers.")] = None,
    attention: Annotated[str, typer.Option(help="Name of the attention function.")] = "auto",
    layers: Annotated[
        list[str] | None,
        typer.Option(help="Another function for some layers, as 0-3=eager or 5=sdpa; repeatable, the last one wins."),
    ] = None,
    cache: Annotated[CacheName, typer.Option(help="How keys and values are kept.")] = "growing",
    dtype: Annotated[DtypeName | None, typer.Option(help="Of the weights; the file's where nothing is said.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="How many threads torch uses.")] = None,
    echo: Annotated[bool, typer.Option("--echo", help="Show the prompt before the text.")] = False,
) -> None:
    """Continue a text, token by token; the standard output is the text alone."""
    from headstock.cli.generate import Request
    from headstock.cli.generate import run as run_request
    from headstock.models.generation import Sampling

    request = Request(
        prompt=prompt,
        model=model,
        max_tokens=max_tokens,
        sampling=Sampling(temperature=temperature, top_k=top_k, top_p=top_p),
        seed=seed,
        attention=attention,
        layers=tuple(layers or ()),
        cache=cache,
        dtype=None if dtype is None else _dtype(dtype),
        threads=threads,
        echo=echo,
    )
    raise typer.Exit(run_request(request))


@app.command()
def mask(
    text: Annotated[str, typer.Argument(help='What may attend to what, as in "causal & sliding_window(4)".')],
    queries: Annotated[int, typer.Option(min=0, help="How many queries.")] = 16,
    keys: Annotated[
        int | None, typer.Option(min=0, help="How many keys; up to the last query where nothing is said.")
    ] = None,
    q_offset: Annotated[int, typer.Option(min=0, help="Absolute index of the first query.")] = 0,
    kv_offset: Annotated[int, typer.Option(min=0, help="Absolute index of the first key.")] = 0,
    block_size: Annotated[int, typer.Option(min=1, help="Queries and keys in a block of the plan.")] = 128,
    size: Annotated[int, typer.Option(min=1, max=4096, help="The most cells along a side of the picture.")] = 64,
    tensor: Annotated[
        list[str] | None,
        typer.Option(help="What a name in the text stands for, as ids=0,0,1,1 or keep=true,false; repeatable."),
    ] = None,
    svg: Annotated[Path | None, typer.Option(help="Write the picture there as SVG, too.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write the picture there as PNG, too.")] = None,
) -> None:
    """Draw a mask, and tell how dense it is and what becomes of it."""
    from headstock.cli.mask import Request
    from headstock.cli.mask import run as run_request

    request = Request(
        text=text,
        queries=queries,
        keys=keys,
        q_offset=q_offset,
        kv_offset=kv_offset,
        block_size=block_size,
        size=size,
        tensors=tuple(tensor or ()),
        svg=svg,
        png=png,
    )
    raise typer.Exit(run_request(request))


@app.command()
def inspect(
    model: Annotated[
        Path | None,
        typer.Argument(help="A folder with config.json, or a .gguf file; SmolLM2 otherwise. No weights are read."),
    ] = None,
    overrides: Annotated[Path | None, typer.Option(help="A .toml or .json file of overrides to lay on it.")] = None,
    saved: Annotated[bool, typer.Option("--saved", help="Lay on it the overrides that its weights carry.")] = False,
    attention: Annotated[str, typer.Option(help="Name of the attention function.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell for every layer of a model what runs there, and where it was set."""
    from headstock.cli.inspecting import Request
    from headstock.cli.inspecting import run as run_request

    request = Request(model=model, overrides=overrides, saved=saved, attention=attention, as_json=as_json)
    raise typer.Exit(run_request(request))


@app.command()
def explain(
    shape: Annotated[str, typer.Option(help="batch,heads,queries,keys,head_dim")],
    mask: Annotated[
        str | None, typer.Option(help='What may attend to what, as in "causal & sliding_window(4)".')
    ] = None,
    tensor: Annotated[
        list[str] | None,
        typer.Option(help="What a name in the mask stands for, as ids=0,0,1,1 or keep=true,false; repeatable."),
    ] = None,
    device: Annotated[str, typer.Option(help="A device of torch, of this machine or not.")] = "cpu",
    dtype: Annotated[CallDtypeName, typer.Option(help="Of query, key and value.")] = "float32",
    kv_heads: Annotated[int | None, typer.Option(help="Heads of key and value; as many where nothing is said.")] = None,
    value_dim: Annotated[int | None, typer.Option(min=1, help="Head size of the values; that of the keys.")] = None,
    attention: Annotated[str, typer.Option(help="Name of the attention function.")] = "auto",
    softcap: Annotated[float | None, typer.Option(help="Bound of the scores.")] = None,
    dropout: Annotated[float, typer.Option(help="Probability with which a weight is dropped.")] = 0.0,
    sinks: Annotated[bool, typer.Option("--sinks", help="One logit per head takes part in the softmax.")] = False,
    lse: Annotated[bool, typer.Option("--lse", help="The log-sum-exp is asked for.")] = False,
    weights: Annotated[bool, typer.Option("--weights", help="The weights are asked for.")] = False,
    training: Annotated[bool, typer.Option("--training", help="The call will be differentiated.")] = False,
) -> None:
    """Tell which attention function a call would run, and why not the others; nothing is computed."""
    from headstock.cli.explain import Request
    from headstock.cli.explain import run as run_request

    request = Request(
        shape=shape,
        mask=mask,
        tensors=tuple(tensor or ()),
        device=device,
        dtype=dtype,
        kv_heads=kv_heads,
        value_dim=value_dim,
        implementation=attention,
        softcap=softcap,
        dropout=dropout,
        sinks=sinks,
        log_sum_exp=lse,
        weights=weights,
        training=training,
    )
    raise typer.Exit(run_request(request))


@app.command()
def tune(
    device: Annotated[str, typer.Option(help="A type of device of this machine.")] = "cpu",
    quick: Annotated[bool, typer.Option("--quick", help="Fewer calls: about a third of the time.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Time this attention function alone, also where its first call compiles; repeatable."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="How many threads torch uses.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Print what was measured before.")] = False,
    forget: Annotated[bool, typer.Option("--forget", help="Delete it: auto goes by headstock's own figures.")] = False,
) -> None:
    """Measure what each attention function costs on this machine (about a minute), for auto to go by."""
    from headstock.cli.tune import Request
    from headstock.cli.tune import run as run_request

    request = Request(device=device, quick=quick, only=tuple(only or ()), threads=threads, show=show, forget=forget)
    raise typer.Exit(run_request(request))


@app.command()
def demo() -> None:
    """Run real models with interchangeable components and check every equality (under a minute)."""
    from headstock.cli.demo import tell

    raise typer.Exit(0 if tell() else 1)
