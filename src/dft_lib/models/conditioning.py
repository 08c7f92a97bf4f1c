"""What a U-Net is told besides the noisy picture: text embeddings of SD 1.x, 2.x and SDXL.

One place knows that SDXL has two text encoders, a pooled embedding and sizes
("micro-conditioning", Podell et al. 2023, arXiv 2307.01952, section 2.2); everything else handles
a `Conditioning`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch

TextEncoders = dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Conditioning:
    """Conditioning of n images.

    Attributes
    ----------
    hidden : torch.Tensor
        Text embeddings, (n, tokens, width); SDXL's two encoders side by side.
    pooled, time_ids : torch.Tensor or None
        SDXL only: the pooled embedding of the second encoder, (n, width), and original size, crop
        and target size, (n, 6).
    """

    hidden: torch.Tensor
    pooled: torch.Tensor | None = None
    time_ids: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.hidden)

    def parts(self) -> dict[str, torch.Tensor]:
        """Return the tensors that are there, by name."""
        return {k: v for k, v in vars(self).items() if v is not None}

    def __getitem__(self, rows: Any) -> Conditioning:
        return Conditioning(**{k: v[rows] for k, v in self.parts().items()})

    def blend(self, other: Conditioning, own: torch.Tensor) -> Conditioning:
        """Return ``own * self + (1 - own) * other`` per image; `own` has shape (n,)."""
        mixed = {}
        for name, value in self.parts().items():
            part = own.to(value).reshape(-1, *[1] * (value.ndim - 1))
            mixed[name] = part * value + (1 - part) * other.parts()[name]
        return Conditioning(**mixed)


def concatenate(parts: Sequence[Conditioning]) -> Conditioning:
    """Put conditionings one after the other."""
    names = parts[0].parts()
    return Conditioning(**{k: torch.cat([p.parts()[k] for p in parts]) for k in names})


def text_encoders(pipeline: Any) -> TextEncoders:
    """Return the pipeline's text encoders by component name, each with its tokenizer."""
    found = {"text_encoder": (pipeline.tokenizer, pipeline.text_encoder)}
    if getattr(pipeline, "text_encoder_2", None) is not None:
        found["text_encoder_2"] = (pipeline.tokenizer_2, pipeline.text_encoder_2)
    return found


def tokenize(pipeline: Any, captions: Sequence[str]) -> torch.Tensor:
    """Return token ids of every text encoder, int64 (n, encoders, tokens), on the device.

    Raises
    ------
    ValueError
        If a caption is longer than a text encoder reads: its end, often what tells it from
        another, would be cut off unseen.
    """
    ids = []
    for tokenizer, _ in text_encoders(pipeline).values():
        require_readable(captions, tokenizer)
        ids.append(
            tokenizer(
                list(captions), padding="max_length", return_tensors="pt",
                max_length=tokenizer.model_max_length,
            ).input_ids
        )  # fmt: skip
    return torch.stack(ids, 1).to(pipeline.device)


def require_readable(prompts: Sequence[str], tokenizer: Any) -> list[list[int]]:
    """Refuse prompts that are longer than a text encoder reads; return their token ids.

    Raises
    ------
    ValueError
        With one sentence: the prompt, its length and the limit, in tokens.
    """
    ids = tokenizer(list(prompts), verbose=False).input_ids if len(prompts) else []
    limit = tokenizer.model_max_length
    for prompt, found in zip(prompts, ids, strict=True):
        if len(found) > limit:
            raise ValueError(
                f"the prompt {prompt!r} is too long: {len(found)} tokens, but the text encoder "
                f"reads {limit}; shorten the template, sentence or words that it is made of"
            )
    return ids


def require_distinct(prompts: Iterable[str], tokenizers: Iterable[Any]) -> None:
    """Refuse prompts that the text encoders cannot tell apart, or do not read to the end.

    Parameters
    ----------
    prompts : iterable of str
        Everything that may be drawn or trained on; one that occurs again counts once.
    tokenizers : iterable
        Of all text encoders of the model (`dft_lib.models.pipelines.tokenizers`).

    Raises
    ------
    ValueError
        With one sentence: a prompt that is longer than an encoder reads, or two different ones
        that are the same tokens to all encoders and would be drawn as the same picture.
    """
    listed = list(dict.fromkeys(prompts))
    encoded = zip(*(require_readable(listed, t) for t in tokenizers), strict=True)
    seen: dict[bytes, str] = {}
    for prompt, ids in zip(listed, encoded, strict=True):
        # a digest: a million prompts' tokens would take a gigabyte
        other = seen.setdefault(sha256(repr(ids).encode()).digest(), prompt)
        if other != prompt:
            raise ValueError(
                f"the text encoder reads {other!r} and {prompt!r} as the same words: change or "
                "remove one (they may differ only in case, accents or signs it does not know)"
            )


def encode(pipeline: Any, tokens: torch.Tensor) -> Conditioning:
    """Encode token ids as the stock pipeline does, with gradients where they are on.

    The empty caption becomes zeros where the pipeline's configuration says so (SDXL base does), in
    training as in sampling.

    Parameters
    ----------
    pipeline : diffusers.DiffusionPipeline
        Stable Diffusion 1.x, 2.x or XL.
    tokens : torch.Tensor
        From `tokenize`.
    """
    encoders = [encoder for _, encoder in text_encoders(pipeline).values()]
    if len(encoders) == 1:
        return Conditioning(encoders[0](tokens[:, 0])[0])
    outputs = [e(tokens[:, i], output_hidden_states=True) for i, e in enumerate(encoders)]
    hidden = torch.cat([o.hidden_states[-2] for o in outputs], -1)
    pooled = outputs[-1][0]
    if pipeline.config.get("force_zeros_for_empty_prompt"):
        empty = (tokens == tokenize(pipeline, [""])).flatten(1).all(1)
        hidden = hidden.masked_fill(empty[:, None, None], 0)
        pooled = pooled.masked_fill(empty[:, None], 0)
    side = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    sizes = torch.tensor([side, side, 0, 0, side, side]).to(hidden)
    return Conditioning(hidden, pooled, sizes.expand(len(tokens), -1))


def predict(
    pipeline: Any, latents: torch.Tensor, timestep: torch.Tensor, given: Conditioning
) -> torch.Tensor:
    """Return the U-Net's prediction (noise or velocity) for noisy latents, (n, c, h, w)."""
    added = None
    if given.pooled is not None:
        added = {"text_embeds": given.pooled, "time_ids": given.time_ids}
    return pipeline.unet(
        latents, timestep, encoder_hidden_states=given.hidden, added_cond_kwargs=added
    ).sample
