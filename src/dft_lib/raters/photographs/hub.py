"""Models of raters that are fetched from the model hub, at pinned revisions."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError


def weight_files(model: str, revision: str) -> list[Path]:
    """List the safetensors files that `load` read, in the cache or a local folder."""
    folder = Path(model)
    if not folder.is_dir():
        folder = Path(snapshot_download(model, revision=revision, local_files_only=True))
    return sorted(folder.rglob("*.safetensors"))


def require_fetched(model: str, revision: str) -> None:
    """Refuse a model that is not in the cache where the hub may not be asked for it.

    Raises
    ------
    ValueError
        With one sentence.
    """
    try:
        snapshot_download(model, revision=revision, local_files_only=True)
    except LocalEntryNotFoundError:
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
            raise ValueError(
                f"{model} at {revision[:8]} is not in the hub's cache, and HF_HUB_OFFLINE is set: "
                "fetch it once without"
            ) from None


def load(kind: Any, model: str, revision: str, device: str, **options: Any) -> Any:
    """Load a transformers model or processor in safetensors, at a full commit hash.

    Parameters
    ----------
    kind : type
        A transformers class with ``from_pretrained``.
    model : str
        Hub name, or a local folder.
    revision : str
        40 hexadecimal digits.
    device : str
        For models; processors have no ``to``.

    Raises
    ------
    ValueError
        If the revision is no full commit hash.
    OSError
        With one sentence, if the model can neither be fetched nor found in the cache.
    """
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise ValueError(
            f"rater model {model}: revision {revision!r} is no full commit hash; a branch may "
            "point to other weights tomorrow"
        )
    try:
        loaded = kind.from_pretrained(model, revision=revision, **options)
    except (OSError, ValueError) as error:
        raise OSError(
            f"rater model {model} at {revision[:8]} could not be loaded "
            f"({str(error).splitlines()[0]}): connect to the network once, or name a local folder"
        ) from error
    return loaded.to(device).eval() if isinstance(loaded, torch.nn.Module) else loaded
