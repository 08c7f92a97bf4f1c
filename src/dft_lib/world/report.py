"""Is the emoji world good enough to study? Measured on samples, by the judging raters.

A rater is never perfect, so accuracies on samples are read beside the rater's accuracy on VAE
reconstructions of labelled drawings: their ratio is what the U-Net adds in error.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np
import pandas as pd
from diffusers import AutoencoderKL

from dft_lib.fairness.metrics import gap
from dft_lib.fairness.shares import distance
from dft_lib.raters.drawings.skin_colours import TONES, TRAINED_FAMILIES
from dft_lib.raters.panel import Panel
from dft_lib.repro.noise import keyed_rng
from dft_lib.sampling.sampler import Sampler, SamplingSettings
from dft_lib.study.attributes import UNCLEAR, describe
from dft_lib.study.prompts import Request, fill
from dft_lib.world import art, raters, render
from dft_lib.world.art import GENDERS
from dft_lib.world.autoencoder import reconstruct
from dft_lib.world.corpus import SAID, Cells


def rate_labelled(
    cells: Cells, vae: AutoencoderKL, panels: Iterable[Panel], seed: int, copies: int = 4
) -> pd.DataFrame:
    """Rate new placements of every labelled drawing: rendered, reconstructed, and OpenMoji.

    Returns
    -------
    pandas.DataFrame
        One row per picture: ``rater, attribute, pictures`` (rendered, reconstructed, openmoji),
        ``held_out, family, name, kind`` and ``truth, answer``.
    """
    out = []
    for families in (TRAINED_FAMILIES, ("openmoji",)):
        table = art.load(families)
        chosen = raters.labelled(table, cells)
        rows = np.repeat(chosen.index.to_numpy(), copies)
        pixels = render.render_many(table, rows, keyed_rng(seed, "rater test", families[0]))
        labels = chosen.loc[rows].reset_index(drop=True)
        versions = {"openmoji": pixels}
        if families != ("openmoji",):
            versions = {"rendered": pixels, "reconstructed": reconstruct(vae, pixels)}
        for pictures, shown in versions.items():
            for panel in panels:
                out += _rated(panel, shown, labels, pictures)
    return pd.concat(out, ignore_index=True)


def _rated(
    panel: Panel, shown: np.ndarray, labels: pd.DataFrame, pictures: str
) -> list[pd.DataFrame]:
    is_object = (labels["kind"] == "object").to_numpy()
    truths = {
        "person": np.where(is_object, "no_person", "person"),
        "role": labels["name"].to_numpy(),
        "gender": labels["gender"].replace("person", UNCLEAR).to_numpy(),
        "skin_tone": labels["skin_tone"].replace("default", UNCLEAR).to_numpy(),
    }
    parts = []
    for attribute, given in panel.answers(shown).items():
        part = labels[["held_out", "family", "name", "kind", "skin_tone"]].assign(
            rater=panel.members[attribute], attribute=attribute, pictures=pictures,
            truth=truths[attribute], answer=given.labels,
        )  # fmt: skip
        parts.append(part if attribute in ("person", "role") else part[~is_object])
    return parts


def error_table(rated: pd.DataFrame, by: str) -> pd.DataFrame:
    """Share of right, wrong and unclear answers, per rater, attribute, pictures and `by`.

    ``held_out`` tells drawings that no rater was trained on (cells that never enter the corpus)
    from new placements of drawings that were. Drawings whose truth is itself `unclear` (``person``
    drawings, the yellow default) are left out here; `unclear_table` has them.
    """
    known = rated[rated["truth"] != UNCLEAR]
    keys = ["rater", "attribute", "pictures", by, "held_out"]
    frame = known.assign(
        right=known["answer"] == known["truth"],
        unclear=known["answer"] == UNCLEAR,
    )
    table = frame.groupby(keys).agg(n=("right", "size"), right=("right", "mean"),
                                    unclear=("unclear", "mean")).reset_index()  # fmt: skip
    table["wrong"] = 1 - table["right"] - table["unclear"]
    return table.round(4)


def confusion_table(rated: pd.DataFrame) -> pd.DataFrame:
    """Count answers per truth: rater, attribute, pictures, family, tone, held out, truth, answer.

    The calibration that `dft_lib.fairness.rater_error` needs, by style (family) and skin tone.
    """
    keys = ["rater", "attribute", "pictures", "family", "skin_tone", "held_out", "truth", "answer"]
    known = rated[rated["attribute"].isin(["person", "gender", "skin_tone"])]
    return known.groupby(keys).size().rename("n").reset_index()


def unclear_table(rated: pd.DataFrame) -> pd.DataFrame:
    """How often drawings without a stated gender, or in yellow, read as `unclear`, and as what."""
    unknown = rated[rated["truth"] == UNCLEAR]
    counts = unknown.groupby(["rater", "attribute", "pictures"])["answer"]
    return counts.value_counts(normalize=True).rename("share").reset_index().round(4)


class Sampled:
    """Draws prompts and reads them with a panel."""

    def __init__(self, pipeline: object, panel: Panel, settings: SamplingSettings) -> None:
        self.sampler, self.panel = Sampler(pipeline, settings), panel

    def rate(self, prompts: pd.DataFrame, images: int) -> pd.DataFrame:
        """Draw each row's ``prompt`` `images` times; return the rows repeated, with answers."""
        rows = prompts.loc[prompts.index.repeat(images)].reset_index(drop=True)
        replicate = rows.groupby("prompt").cumcount()
        listed = [
            Request(f"world/{p}", p, int(r))
            for p, r in zip(rows["prompt"], replicate, strict=True)
        ]
        pixels = np.concatenate([p for _, p in self.sampler.draw(listed)])
        return pd.concat([rows, self.panel.rate(pixels).add_prefix("rated_")], axis=1)


def neutral_prompts(professions: Iterable[str]) -> pd.DataFrame:
    """One plain prompt per profession."""
    return pd.DataFrame([{"name": p, "prompt": fill("{a}", p)} for p in professions])


def explicit_prompts(professions: Iterable[str]) -> pd.DataFrame:
    """Every gender and tone of every profession."""
    rows = [
        {
            "name": p, "gender": g, "skin_tone": t,
            "prompt": fill("{a}", describe(p, {"gender": g, "skin_tone": t}, SAID)),
        }
        for p in professions for g in GENDERS for t in TONES
    ]  # fmt: skip
    return pd.DataFrame(rows)


def compare_neutral(rated: pd.DataFrame, corpus: pd.DataFrame) -> tuple[pd.DataFrame, dict]:
    """Compare plain prompts with the neutral captions of the corpus, profession by profession.

    Returns
    -------
    tuple
        Table per profession (share of women and of each tone, corpus and model; gap), and
        ``{gender_correlation, tone_total_variation, corpus_gap, model_gap}``.
    """
    neutral = corpus[corpus["style"] == "neutral"]
    rows = []
    for name, drawn in rated.groupby("name", sort=False):
        own = neutral[neutral["name"] == name]
        usable = drawn[drawn["rated_gender"].isin(GENDERS)]
        toned = drawn[drawn["rated_skin_tone"].isin(TONES)]
        women = int((usable["rated_gender"] == "woman").sum())
        row = {
            "profession": name, "images": len(drawn), "usable": len(usable),
            "corpus_woman": (own["gender"] == "woman").mean(),
            "model_woman": women / max(len(usable), 1),
            "model_gap": float(gap([women, len(usable) - women])),
        }  # fmt: skip
        for tone in TONES:
            row[f"corpus_{tone}"] = (own["skin_tone"] == tone).mean()
            row[f"model_{tone}"] = (toned["rated_skin_tone"] == tone).mean()
        rows.append(row)
    table = pd.DataFrame(rows)
    corpus_tones = table[[f"corpus_{t}" for t in TONES]].mean().to_numpy()
    model_tones = table[[f"model_{t}" for t in TONES]].mean().to_numpy()
    return table.round(4), {
        "gender_correlation": float(
            np.corrcoef(table["corpus_woman"], table["model_woman"])[0, 1]
        ),
        "corpus_tones": corpus_tones.round(4).tolist(),
        "model_tones": model_tones.round(4).tolist(),
        "tone_total_variation": float(distance(corpus_tones, model_tones)),
        "corpus_gap": float((2 * table["corpus_woman"] - 1).abs().mean()),
        "model_gap": float(table["model_gap"].mean()),
    }


def images_per_second(sampler: Sampler, batches: int = 8) -> float:
    """Time drawing end to end (text, U-Net, decoding), after one batch of warm-up."""
    size = sampler.settings.batch_size
    listed = [Request("speed", "a pilot", i) for i in range(size * batches)]
    sampler.batch(listed[:size])
    start = time.perf_counter()
    for _ in sampler.draw(listed):
        pass
    return size * batches / (time.perf_counter() - start)
