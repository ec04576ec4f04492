"""The posterior under the uniform distribution over a code, against the sum over all its words."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import estimators.uniform_code as uniform_code
from cmi.exact import ClosedLoops
from estimators.known_noise import KnownNoise
from estimators.parity_checks import BitCode
from estimators.uniform_code import UniformCode

NOISES = [KnownNoise.of(None, 0.1), KnownNoise.of(2.0, None), KnownNoise.of(None, 0.0)]


def summed(words: np.ndarray, density: np.ndarray, known: list[int], target: int) -> np.ndarray:
    """Posterior of one column by the sum over all words of a code; density (n, 2, d)."""
    weight = np.ones((len(density), len(words)))
    for column in known:
        weight *= density[:, :, column][:, words[:, column]]
    both = np.stack([weight[:, words[:, target] == value].sum(axis=1) for value in (0, 1)], axis=1)
    return np.asarray(both / both.sum(axis=1, keepdims=True))


@given(seed=st.integers(0, 10_000), rank=st.integers(2, 8), noise=st.sampled_from(NOISES))
def test_it_is_the_sum_over_all_words(seed: int, rank: int, noise: KnownNoise) -> None:
    sizes = (2, 3, 3, 2)
    d = sum(sizes)
    rng = np.random.default_rng(seed)
    generator, shift = rng.integers(0, 2, (rank, d)), rng.integers(0, 2, d)
    words = (np.array(list(product((0, 1), repeat=rank))) @ generator + shift) % 2
    x = words[rng.integers(len(words), size=400)].astype(float)
    x = np.concatenate([words, x])  # every word is seen
    bits = BitCode.of(x, sizes)
    if bits is None:
        return
    noisy = noise.applied(x[:30], 0, (1,))
    if noise.flip:
        density = np.where(noisy[:, None, :] == np.array([0.0, 1.0])[:, None], 1.0 - noise.flip, noise.flip)
    elif noise.sigma:
        density = np.exp(-0.5 * ((noisy[:, None, :] - np.array([0.0, 1.0])[:, None]) / noise.sigma) ** 2)
    else:
        density = (noisy[:, None, :] == np.array([0.0, 1.0])[:, None]).astype(float)
    found = UniformCode(bits, sizes)
    for target in range(2):
        if len(np.unique(words[:, target])) == 1:
            continue
        posterior = found.posterior(noisy, target, noise)
        for group, end in enumerate(np.cumsum(sizes)):
            truth = summed(words, density, [*range(target), *range(2, end)], target)
            np.testing.assert_allclose(posterior[:, group], truth, atol=1e-9)


def test_closed_loops_are_within_reach_and_exact() -> None:
    model = ClosedLoops(L=8)
    partition = model.partition((1, 2))
    x = model.sample(2000, 0).reshape(2000, -1)[:, partition.columns].astype(float)
    bits = BitCode.of(x, partition.sizes)
    assert bits is not None
    code = UniformCode(bits, partition.sizes)
    sweeps = [sweep for each in code.sweeps for sweep in each]
    assert all(sweep is not None and sweep.most <= 13 for sweep in sweeps)
    rng = np.random.default_rng(1)
    p = 0.1
    noisy = np.where(rng.random(x.shape) < p, 1.0 - x, x)
    total = np.zeros((4, len(x)))
    for target in range(4):
        one = code.posterior(noisy, target, KnownNoise.of(None, p))[..., 1]
        seen = one * (1 - p) + (1 - one) * p  # of a noisy bit 1
        total -= np.log(np.where(noisy[:, [target]] == 1.0, seen, 1.0 - seen)).T
    for r in (1, 2):
        local = total[r] - total[3]
        truth = model.cmi(2 * p, r)
        assert abs(local.mean() - truth.value) < 4.0 * np.hypot(local.std() / np.sqrt(len(x)), truth.stderr)
        assert truth.value > 0.1


def test_too_many_open_words_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uniform_code, "_OPEN", 2)
    model = ClosedLoops(L=6)
    partition = model.partition((1,))
    x = model.sample(500, 0).reshape(500, -1)[:, partition.columns].astype(float)
    bits = BitCode.of(x, partition.sizes)
    assert bits is not None
    found = UniformCode(bits, partition.sizes).posterior(x[:3], 3, KnownNoise.of(None, 0.1))
    assert np.isnan(found[:, 2]).all()
    assert np.isfinite(found[:, 0]).all()
