"""transformers' modules by their own names: write `headstock.compat.` where an import says `transformers.`.

Each is imported by itself, so that one does not load what another needs; none imports transformers.
"""
