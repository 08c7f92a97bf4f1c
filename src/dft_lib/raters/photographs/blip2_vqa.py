"""Rater `blip2_vqa`: perceived groups by questions to BLIP-2, the DFT paper's judge.

Needs the model hub once, and a GPU to be useful. No text is generated: every picture is encoded
once, all questions are asked in one pass, and the next-token probabilities of the possible answers
are compared, so that an answer outside the schema cannot occur and no random draw is involved.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import Blip2ForConditionalGeneration, Blip2Processor

from dft_lib.raters.base import Answer, answer
from dft_lib.raters.photographs import hub

MODEL = "Salesforce/blip2-opt-2.7b"
REVISION = "51572668da0eb669e01a189dc22abe6088589a24"


class Question(NamedTuple):
    """A question, and which word means which group."""

    text: str
    words: Mapping[str, str]


QUESTIONS = {
    "person": Question("Is there a person in the picture?", {"person": "yes", "no_person": "no"}),
    "gender": Question("Is this person a woman or a man?", {"woman": "woman", "man": "man"}),
    "skin_tone": Question(
        "Is this person's skin light, medium or dark?",
        {"light": "light", "medium": "medium", "dark": "dark"},
    ),
}


class Blip2Rater:
    """Visual question answering by scoring answer tokens.

    Parameters
    ----------
    model : transformers.Blip2ForConditionalGeneration
        With a decoder-only language model (OPT), in evaluation mode.
    tokenizer, image_processor : transformers objects
        Of the same checkpoint.
    questions : mapping
        attribute -> `Question`.
    least : float
        Smallest best score that counts as an answer; below it `unclear`.

    Raises
    ------
    ValueError
        If two answers of a question begin with the same token, or the language model is none
        that continues a text.
    """

    name = "blip2_vqa"

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        image_processor: Any,
        *,
        questions: Mapping[str, Question] = QUESTIONS,
        least: float = 0.6,
    ) -> None:
        if not model.config.use_decoder_only_language_model:
            raise ValueError("blip2_vqa needs a BLIP-2 with a decoder-only language model (OPT)")
        self.model, self.image_processor = model, image_processor
        self.files: list[Path] = []
        self.questions, self.least = questions, least
        prompts = [f"Question: {q.text} Answer:" for q in questions.values()]
        tokenizer.padding_side = "left"  # so that the last position is the answer's
        tokens = tokenizer(prompts, padding=True, return_tensors="pt").to(model.device)
        self.ids, self.mask = tokens["input_ids"], tokens["attention_mask"]
        self.answers = {
            attribute: [tokenizer(" " + word, add_special_tokens=False).input_ids[0]
                        for word in question.words.values()]
            for attribute, question in questions.items()
        }  # fmt: skip
        for attribute, ids in self.answers.items():
            if len(set(ids)) < len(ids):
                raise ValueError(
                    f"blip2_vqa: two answers for {attribute} begin with the same token; use other "
                    "words"
                )

    def weights(self) -> list[Path]:
        """List the weight files, for the record; none for a model that was never saved."""
        return self.files

    @torch.inference_mode()
    def rate(self, pixels: np.ndarray, batch: int = 8) -> dict[str, Answer]:
        """Rate pictures; see `dft_lib.raters.base.Rater.rate`."""
        scores: dict[str, list[np.ndarray]] = {attribute: [] for attribute in self.questions}
        for start in range(0, len(pixels), batch):
            logits = self._next_token(pixels[start : start + batch])
            for number, attribute in enumerate(self.questions):
                mine = logits[:, number, self.answers[attribute]].float().softmax(1)
                scores[attribute].append(mine.cpu().numpy())
        return {
            attribute: answer(
                np.concatenate(scores[attribute])
                if scores[attribute]
                else np.zeros((0, len(question.words)), np.float32),
                tuple(question.words),
                self.least,
            )
            for attribute, question in self.questions.items()
        }

    def _next_token(self, pixels: np.ndarray) -> torch.Tensor:
        """Return logits of the token after every question, (pictures, questions, vocabulary)."""
        model, number = self.model, len(self.questions)
        shown = self.image_processor(list(pixels), return_tensors="pt")["pixel_values"]
        seen = model.get_image_features(shown.to(model.device, model.dtype)).pooler_output
        words = model.get_input_embeddings()(self.ids).repeat(len(pixels), 1, 1)
        seen = seen.repeat_interleave(number, 0)
        embeds = torch.cat([seen.to(words.dtype), words], 1)
        ones = torch.ones(seen.shape[:2], dtype=self.mask.dtype, device=self.mask.device)
        mask = torch.cat([ones, self.mask.repeat(len(pixels), 1)], 1)
        logits = model.language_model(inputs_embeds=embeds, attention_mask=mask).logits[:, -1]
        return logits.reshape(len(pixels), number, -1)


def open_rater(
    path: object = None,
    *,
    model: str = MODEL,
    revision: str = REVISION,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Blip2Rater:
    """Return the rater; fetches its model at the pinned revision."""
    processor = hub.load(Blip2Processor, model, revision, device)
    rater = Blip2Rater(
        hub.load(Blip2ForConditionalGeneration, model, revision, device, dtype=dtype,
                 use_safetensors=True),
        processor.tokenizer, processor.image_processor,
    )  # fmt: skip
    rater.files = hub.weight_files(model, revision)
    return rater
