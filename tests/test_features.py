"""Distances between sets of images in a feature space."""

import numpy as np
import pandas as pd
import pytest

from dft_lib.evaluation import distances


def test_frechet_distance_of_known_gaussians():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200_000, 3))
    y = rng.normal(size=(200_000, 3)) * [1, 2, 3] + [1, 0, 0]
    # |mu|^2 + sum (s1 - s2)^2 for diagonal covariances
    assert distances.frechet_distance(x, y) == pytest.approx(1 + 1 + 4, abs=0.08)
    assert distances.frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    assert distances.frechet_distance(x[:500], y[:500]) == pytest.approx(
        distances.frechet_distance(y[:500], x[:500])
    )
    assert np.isnan(distances.frechet_distance(x[:1], y))
    few = [
        distances.frechet_distance(x[i : i + 20], x[i + 20 : i + 40]) for i in range(0, 400, 40)
    ]
    assert np.mean(few) > 0.1  # biased upwards on few images, as documented


def test_kernel_distance_is_unbiased():
    rng = np.random.default_rng(0)
    values = [distances.kernel_distance(*rng.normal(size=(2, 15, 4))) for _ in range(500)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))
    assert min(values) < 0
    shifted = distances.kernel_distance(rng.normal(size=(50, 4)), rng.normal(size=(50, 4)) + 2)
    assert shifted > 10 * np.std(values)


def test_diversity():
    assert distances.diversity([[0, 0], [3, 4]]) == 5
    assert distances.diversity([[1, 1]] * 4) == 0
    assert np.isnan(distances.diversity([[1, 2]]))


def test_paired_images_of_one_model_are_no_distance_apart():
    """Arm and base share prompt and noise: likeness of pairs is no evidence of drift."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        shared = rng.normal(size=(20, 4)) * 3
        found.append(distances.kernel_distance(
            shared + rng.normal(size=shared.shape), shared + rng.normal(size=shared.shape)
        ))  # fmt: skip
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found))
    same = rng.normal(size=(30, 4))
    assert distances.kernel_distance(same, same) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="paired images"):
        distances.kernel_distance(same, same[:5])


def test_diversity_stays_within_prompt_and_group():
    ratings = pd.DataFrame(
        {
            "seed": 0, "kind": ["neutral"] * 5 + ["general"], "prompt_id": list("aaabbb"),
            "rated_gender": ["woman", "woman", "man", "man", "man", "man"],
        }
    )  # fmt: skip
    shown = np.array([[0, 0], [0, 2], [9, 9], [0, 0], [0, 6], [50, 50]], float)
    found = distances.diversity_cells(shown, ratings, "gender")
    assert found.to_dict() == {("a", "woman"): 2, ("b", "man"): 6}


def test_reading(tmp_path):
    ratings = pd.DataFrame({"sha256": ["x", "y"]})
    with pytest.raises(FileNotFoundError, match="run notebook 04_evaluate"):
        distances.read_features(tmp_path, ratings)
    table = pd.DataFrame({"feature_0": [1.0, 2.0], "sha256": ["x", "z"]})
    table.to_parquet(tmp_path / "features.parquet")
    with pytest.raises(ValueError, match="does not belong to the ratings"):
        distances.read_features(tmp_path, ratings)
