import numpy as np

from dft_lib.repro.noise import initial_noise, keyed_rng


def test_noise_belongs_to_its_key_alone():
    first = initial_noise(1, "eval/neutral/pilot/0", 3, (4, 8, 8))
    for seed, prompt, replicate in [(2, "eval/neutral/pilot/0", 3), (1, "x", 3), (1, "x", 4)]:
        assert not np.array_equal(first, initial_noise(seed, prompt, replicate, (4, 8, 8)))
    assert np.array_equal(first, initial_noise(1, "eval/neutral/pilot/0", 3, (4, 8, 8)))


def test_noise_is_stable_across_versions():
    # If this changes, every image of the study changes: it must be a decision, not an accident.
    expected = [-1.8755286931991577, 0.20050515234470367, 1.6364701986312866]
    assert initial_noise(0, "p", 0, (3,)).tolist() == expected


def test_noise_is_standard_normal_and_does_not_repeat():
    draws = np.stack([initial_noise(0, "p", r, (64,)) for r in range(500)])
    assert abs(draws.mean()) < 0.03
    assert abs(draws.std() - 1) < 0.03
    assert len({row.tobytes() for row in draws}) == 500
    between = np.corrcoef(draws[:50])
    assert np.abs(between - np.eye(50)).max() < 0.6


def test_keys_of_different_types_differ():
    assert keyed_rng("1").random() != keyed_rng(1).random()
    assert keyed_rng("a", "b").random() != keyed_rng("ab").random()
