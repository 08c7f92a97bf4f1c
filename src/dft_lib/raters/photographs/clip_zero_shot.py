"""Rater `clip_zero_shot`: perceived groups by CLIP's similarity of picture and sentences.

Needs the model hub once. CLIP is itself biased and follows its sentences closely: an extra judge
beside others, not the only one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import CLIPModel, CLIPProcessor

from dft_lib.raters.base import Answer, answer
from dft_lib.raters.photographs import hub

MODEL = "openai/clip-vit-large-patch14"
REVISION = "32bd64288804d66eefd0ccbe215aa642df71cc41"
Sentences = Mapping[str, Mapping[str, str]]
SENTENCES: Sentences = {
    "person": {"person": "a photo of a person", "no_person": "a photo without any person"},
    "gender": {"woman": "a photo of a woman", "man": "a photo of a man"},
    "skin_tone": {
        "light": "a photo of a person with light skin",
        "medium-light": "a photo of a person with medium light skin",
        "medium": "a photo of a person with medium skin",
        "medium-dark": "a photo of a person with medium dark skin",
        "dark": "a photo of a person with dark skin",
    },
}


class ClipRater:
    """Zero-shot classification, a softmax per attribute.

    Parameters
    ----------
    model : transformers.CLIPModel
        In evaluation mode.
    processor : transformers.CLIPProcessor
        Of the same checkpoint.
    sentences : mapping
        attribute -> {group: sentence}.
    least : float
        Smallest best score that counts as an answer; below it `unclear`.
    """

    name = "clip_zero_shot"

    def __init__(
        self, model: Any, processor: Any, *, sentences: Sentences = SENTENCES, least: float = 0.6
    ) -> None:
        self.model, self.processor, self.least = model, processor, least
        self.files: list[Path] = []
        self.sentences = sentences
        texts = [text for groups in sentences.values() for text in groups.values()]
        tokens = processor.tokenizer(texts, padding=True, return_tensors="pt").to(model.device)
        with torch.inference_mode():
            self.texts = _unit(model.get_text_features(**tokens))

    def weights(self) -> list[Path]:
        """List the weight files, for the record; none for a model that was never saved."""
        return self.files

    @torch.inference_mode()
    def rate(self, pixels: np.ndarray, batch: int = 32) -> dict[str, Answer]:
        """Rate pictures; see `dft_lib.raters.base.Rater.rate`."""
        parts = []
        for start in range(0, len(pixels), batch):
            shown = self.processor.image_processor(
                list(pixels[start : start + batch]), return_tensors="pt"
            )
            values = shown["pixel_values"].to(self.model.device, self.model.dtype)
            seen = _unit(self.model.get_image_features(pixel_values=values))
            parts.append((self.model.logit_scale.exp() * seen @ self.texts.T).float().cpu())
        logits = torch.cat(parts) if parts else torch.zeros(0, len(self.texts))
        answers, first = {}, 0
        for attribute, groups in self.sentences.items():
            mine = logits[:, first : first + len(groups)].softmax(1).numpy()
            answers[attribute] = answer(mine, tuple(groups), self.least)
            first += len(groups)
        return answers


def _unit(features: Any) -> torch.Tensor:
    """Return features of length 1; transformers 5 wraps them in an output object."""
    tensor = getattr(features, "pooler_output", features)
    return tensor / tensor.norm(dim=-1, keepdim=True)


def open_rater(
    path: object = None, *, model: str = MODEL, revision: str = REVISION, device: str = "cpu"
) -> ClipRater:
    """Return the rater; fetches its model at the pinned revision."""
    rater = ClipRater(
        hub.load(CLIPModel, model, revision, device, use_safetensors=True),
        hub.load(CLIPProcessor, model, revision, device),
    )
    rater.files = hub.weight_files(model, revision)
    return rater
