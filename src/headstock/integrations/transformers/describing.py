"""Models of transformers by their configuration alone: to be looked at, not run."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from headstock.errors import ConfigWarning, HeadstockError, UnsupportedFeature
from headstock.integrations.transformers.installing import install, installed, uninstall
from headstock.integrations.transformers.naming import IMPLEMENTATIONS
from headstock.integrations.transformers.package import transformers_package

__all__ = ["described"]

# In this order, where a configuration names no class of one of them.
_AUTO = ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoModelForMaskedLM", "AutoModel")


def described(folder: Path, attention: str = "auto") -> nn.Module:
    """The model that a folder's `config.json` describes, on the meta device, with headstock's attention.

    Nothing is downloaded, and no code that lies in the folder is run. `install` is called, and undone where this fails.

    Args:
        folder: with `config.json`.
        attention: a name in headstock's table that transformers knows, under a name of its own.

    Raises:
        MissingDependency: transformers is not installed, or too old.
        UnsupportedFeature: transformers has no such model, or knows no such function.
    """
    package = transformers_package()
    before = installed()
    try:
        return _built(package, folder, _name_of(attention))
    except (ImportError, KeyError, OSError, TypeError, ValueError) as error:
        if not before:  # what failed leaves nothing behind
            uninstall()
        if isinstance(error, HeadstockError):
            raise
        told = " ".join(str(error).split())[:200]
        raise UnsupportedFeature(
            f"config.json must describe a model that transformers {package.__version__} can build, got {folder}: {told}"
        ) from error


def _name_of(attention: str) -> str:
    """What transformers calls a function of headstock, once it is installed."""
    names = {held: name for name, held in IMPLEMENTATIONS.items()}
    if names.get(attention) not in install():
        raise UnsupportedFeature(
            f"the attention of transformers' models must be one of {', '.join(map(repr, names))}, got {attention!r}; "
            "leave it out for 'auto'"
        )
    return names[attention]


def _built(package: Any, folder: Path, name: str) -> nn.Module:
    config = package.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    model_class = _class_for(package, config)
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConfigWarning)  # of attention of its own, which a report says
        model: nn.Module = model_class._from_config(config, attn_implementation=name)
    return model.eval()


def _class_for(package: Any, config: Any) -> Any:
    """The class that the configuration names, among those that transformers lists for it; else the first."""
    mappings = [getattr(package, name)._model_mapping for name in _AUTO]
    listed = [each[type(config)] for each in mappings if type(config) in each]
    classes = [each for found in listed for each in (found if isinstance(found, tuple | list) else (found,))]
    named = [each for each in classes if each.__name__ in (getattr(config, "architectures", None) or ())]
    return (named or classes or [package.AutoModel._model_mapping[type(config)]])[0]
