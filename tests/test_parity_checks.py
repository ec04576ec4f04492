"""Parity checks of clean bits: found by elimination, light, nested, and seen through noise."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmi.exact import ClosedLoops
from estimators.parity_checks import BitCode, parity_checks, words_of_buffers


def code(seed: int, d: int, rank: int, n: int = 200) -> np.ndarray:
    """Samples of a random linear code, shifted by a random word."""
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 2, (n, rank)) @ rng.integers(0, 2, (rank, d)) + rng.integers(0, 2, d)) % 2


def all_checks(x: np.ndarray) -> set[int]:
    """Every word whose parity never changes, by trying all."""
    d = x.shape[1]
    words = [word for word in product((0, 1), repeat=d) if len(set((x @ word % 2).tolist())) == 1]
    return {sum(bit << i for i, bit in enumerate(word)) for word in words}


def span(words: list[int]) -> set[int]:
    found = {0}
    for word in words:
        found |= {word ^ other for other in found}
    return found


@given(seed=st.integers(0, 10_000), d=st.integers(1, 8), rank=st.integers(0, 8))
def test_the_words_are_those_that_trying_all_finds(seed: int, d: int, rank: int) -> None:
    x = code(seed, d, rank).astype(np.uint8)
    never = sum(1 << i for i in range(d) if len(np.unique(x[:, i])) == 1)
    found = parity_checks(x)
    assert span(found) == {word for word in all_checks(x) if not word & never}
    assert len(span(found)) == 2 ** len(found)  # a basis


@given(seed=st.integers(0, 10_000), rank=st.integers(1, 7))
def test_every_buffer_has_a_basis_of_its_syndromes_and_votes(seed: int, rank: int) -> None:
    sizes = (2, 2, 3, 2)
    x = code(seed, sum(sizes), rank).astype(np.uint8)
    checks = span(parity_checks(x))
    ends = np.cumsum(sizes)
    for target, words in enumerate(words_of_buffers(parity_checks(x), sizes)):
        own = 1 << target
        found = [sum(1 << int(i) for i in np.flatnonzero(row)) for row in words.member]
        assert not any(word & own for word in found)
        for group, end in enumerate(ends):
            known = sum(1 << i for i in (*range(target), *range(sizes[0], end)))
            here = [word for word, g in zip(found, words.group, strict=True) if g <= group]
            assert all(word & ~known == 0 for word in here)  # none sees farther out
            syndromes = {word for word in checks if word & ~known == 0}
            assert span([word for word in here if word in checks]) == syndromes
            votes = [word for word in checks if word & own and word & ~(known | own) == 0]
            assert any(word ^ own in checks for word in here) == bool(votes)


def test_the_vertices_of_a_lattice_are_found() -> None:
    model = ClosedLoops(L=6)
    partition = model.partition((1,))
    x = model.sample(2000, 0).reshape(2000, -1)[:, partition.columns].astype(np.uint8)
    words = words_of_buffers(parity_checks(x), partition.sizes)[0]
    weights = words.member.sum(axis=1)
    inner = weights[words.group == 1]
    assert inner.tolist() == [8.0]  # of the hole
    assert sorted(weights.tolist())[:4] == [2.0] * 4  # the corners
    assert (weights <= 4.0).sum() == 36 - 4 - 1  # every vertex without edges in A; the last follows from the others


def test_what_is_no_code() -> None:
    rng = np.random.default_rng(0)
    sizes = (1, 1, 2)
    assert BitCode.of(rng.standard_normal((50, 4)), sizes) is None
    assert BitCode.of(rng.integers(0, 2, (500, 4)).astype(float), sizes) is None
    constant = rng.integers(0, 2, (500, 4)).astype(float)
    constant[:, 1] = 3.0  # tells nothing
    assert BitCode.of(constant, sizes) is None
    constant[:, 3] = constant[:, 2]
    assert BitCode.of(constant, sizes) is None  # of A it says nothing
    rare = np.zeros((500, 4))
    rare[:, 0] = rng.integers(0, 2, 500)
    rare[7, 2] = rare[7, 3] = 1.0  # by chance together
    assert BitCode.of(rare, sizes) is None
    constant[:, 0] = constant[:, 2]
    found = BitCode.of(constant, sizes)
    assert found is not None
    assert found.words[0].member.tolist() == [[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0]]
    assert found.words[0].group.tolist() == [2, 2, 2]


@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_expected_parities(sigma: float) -> None:
    torch = pytest.importorskip("torch")
    from estimators.noisy_parities import Checks

    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (500, 5)).astype(float)
    x[:, 0] = (x[:, 1] + x[:, 2] + x[:, 3]) % 2
    x = 2.0 * x - 0.3
    bits = BitCode.of(x, (1, 2, 2))
    assert bits is not None
    checks = Checks(bits, 3)
    assert checks.sizes == [0, 0, 1]
    noisy = x[:20] + 0.6 * rng.standard_normal((20, 5))
    seen = checks.seen(torch.as_tensor(noisy[None], dtype=torch.float32), [0], torch.tensor([sigma]))[0, :, 0]
    odds = 2.0 * (noisy[:, 1:4] - 0.7) / sigma**2 if sigma else None  # ln p(y | high) - ln p(y | low)
    each = np.sign(noisy[:, 1:4] - 0.7) if odds is None else np.tanh(odds / 2.0)
    np.testing.assert_allclose(seen.numpy(), each.prod(axis=1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("noise", ["flips", "snrs"])
def test_the_posterior_reads_a_parity_of_seven_bits(noise: str) -> None:
    pytest.importorskip("torch")
    from estimators.posterior import fit_posterior

    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (6000, 8)).astype(float)
    x[:, 0] = x[:, 1:7].sum(axis=1) % 2
    level = {"flips": 0.02, "snrs": 100.0}[noise]
    given_levels: dict[str, Any] = {noise: [level]}
    fit = fit_posterior(x, (1, 2, 5), **given_levels, steps=60)
    profile = fit.profile(x, **{noise[:-1]: level})
    found, error = profile.value[0], profile.covariance()[0, 0] ** 0.5
    if noise == "snrs":  # five sigma from the middle: hardly ever wrong
        assert abs(found - np.log(2.0)) < 0.01
        return
    wrong = 0.5 * (1.0 - (1.0 - 2.0 * level) ** 7)
    truth = np.log(2.0) + wrong * np.log(wrong) + (1.0 - wrong) * np.log(1.0 - wrong)
    assert abs(found - truth) < 3.0 * error < 0.1
