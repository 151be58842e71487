"""Reference models built only from headstock's parts, imported on request: `headstock.models.bert`, `...gpt2`."""

__all__: list[str] = []
