"""Reference models built only from headstock's parts, each imported on request: `bert`, `gpt2`, `llama`."""

__all__: list[str] = []
