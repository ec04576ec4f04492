"""Exact models against independent routes: enumeration, quadrature, other forms, and samples of themselves."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from naive import marginal, table_entropy
from numpy.typing import NDArray
from scipy.integrate import quad

from cmi import open_dataset
from cmi.exact import (
    Cat,
    ClosedLoops,
    ExactModel,
    GaussianChain,
    GaussianField,
    HiddenMarkovChain,
    RepetitionCode,
)
from cmi.exact.two_states import unknown_sign, unknown_sign_flipped

FloatArray = NDArray[np.float64]


# Two states


@pytest.mark.parametrize("snr", [1e-6, 0.01, 0.3, 1.0, 9.0, 40.0, 300.0])
def test_an_unknown_sign_by_quadrature(snr: float) -> None:
    """Ln 2 - D = s - E ln cosh(s + sqrt(s) z), written as E ln(1 + exp(-2 (s + sqrt(s) z))) = D."""
    middle = -np.sqrt(snr)

    def integrand(z: float) -> float:
        return float(
            np.logaddexp(0.0, -2.0 * (snr + np.sqrt(snr) * z)) * np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)
        )

    expected = quad(integrand, -40.0, 40.0, points=[middle - 1.0, middle, middle + 1.0], limit=500, epsabs=0.0)[0]
    assert unknown_sign(snr) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("p", [0.01, 0.2, 0.5])
def test_flipped_copies_by_enumeration(p: float) -> None:
    for k in (0, 1, 5, 8):
        looks = np.array(list(product((0, 1), repeat=k))).reshape(2**k, k)
        given_zero = p ** looks.sum(axis=1) * (1.0 - p) ** (k - looks.sum(axis=1))
        given_one = given_zero[::-1]
        unknown = (
            0.5 * (table_entropy(given_zero) + table_entropy(given_one))
            + np.log(2.0)
            - table_entropy(0.5 * (given_zero + given_one))
        )
        assert unknown_sign_flipped(k, p) == pytest.approx(unknown, abs=1e-12)


def test_the_cat_on_the_square_decays_faster_than_any_exponential() -> None:
    """As exp(-s (2r+1)^2 / 2), but for a power: each step in r adds to the rate."""
    cat = Cat(L=21, dims=2)
    level = float(cat.schedule().time(0.5))
    logs = np.log([cat.cmi(level, r).value for r in range(1, 6)])
    inner = (2 * np.arange(1, 6) + 1) ** 2 - 1  # sites of B
    powers = -0.5 * np.log(inner)
    np.testing.assert_allclose(np.diff(logs - powers), -0.25 * np.diff(inner), rtol=0.05)
    assert cat.critical_level is None


# All models


def by_direct_entropies(model: GaussianChain | GaussianField, level: float, r: int) -> float:
    regions = model.partition([r])
    noisy = model.covariance + np.eye(len(model.covariance)) / float(model.schedule().snr(level))

    def log_det(*parts: NDArray[np.int64]) -> float:
        columns = np.concatenate(parts)
        return float(np.linalg.slogdet(noisy[np.ix_(columns, columns)])[1])

    a, b, c = regions.A, regions.B(r), regions.C(r)
    return 0.5 * (log_det(a, b) + log_det(b, c) - log_det(b) - log_det(a, b, c))


@pytest.mark.parametrize("model", [GaussianChain(L=13), GaussianChain(L=9, a=0.5), GaussianField(L=7)])
def test_gaussian_models_by_determinants(model: GaussianChain | GaussianField) -> None:
    for level in (0.05, 0.3, 0.6, 0.95):
        for r in (1, 2):
            assert model.cmi(level, r).value == pytest.approx(by_direct_entropies(model, level, r), abs=1e-11)


def test_published_lengths_of_the_chain() -> None:
    """For a = 0.9 and noise of variance 0.1, 1, 10, 100: 0.370, 1.070, 2.79, 4.35."""
    chain = GaussianChain(a=0.9)
    lengths = [chain.markov_length(float(chain.schedule().time(1.0 / v))) for v in (0.1, 1.0, 10.0, 100.0)]
    np.testing.assert_allclose(lengths, [0.370, 1.070, 2.79, 4.35], rtol=2e-3)


@pytest.mark.parametrize(
    ("model", "levels", "r", "tolerance"),
    [
        (GaussianChain(L=161), (0.5, 0.6, 0.7), 20, 1e-3),
        (GaussianField(L=25, kappa=0.5), (0.4, 0.5), 3, 0.15),
        (Cat(L=81, dims=1), (0.5, 0.6), 12, 0.1),
        (RepetitionCode(L=201), (0.2, 0.4), 30, 0.05),
        (HiddenMarkovChain(L=17), (0.1, 0.3, 0.6), 4, 0.05),
    ],
)
def test_the_decay_is_that_of_the_markov_length(
    model: ExactModel, levels: tuple[float, ...], r: int, tolerance: float
) -> None:
    for level in levels:
        slope = 1.0 / np.log(model.cmi(level, r).value / model.cmi(level, r + 1).value)
        assert slope == pytest.approx(model.markov_length(level), rel=tolerance)


def test_a_hidden_chain_by_enumeration_and_by_sampling() -> None:
    """The exact route against sums over all strings written out, and sampled strings against the exact route."""
    chain = HiddenMarkovChain(L=5, flip=0.15)
    states = np.array(list(product((0, 1), repeat=5)))
    hidden = 0.5 * np.prod(np.where(states[:, 1:] != states[:, :-1], 0.15, 0.85), axis=1)
    apart = (states[:, None, :] != states[None, :, :]).sum(axis=2)
    seen = hidden @ (0.1**apart * 0.9 ** (5 - apart))
    codes = states @ (1 << np.arange(5))
    h = [table_entropy(marginal(codes, kept, seen)) for kept in ([1, 2, 3], [0, 1, 3, 4], [1, 3], [0, 1, 2, 3, 4])]
    assert chain.cmi(0.2, 1).value == pytest.approx(h[0] + h[1] - h[2] - h[3], abs=1e-12)
    longer, exact = HiddenMarkovChain(L=19), HiddenMarkovChain(L=17)
    for r in (1, 2):
        sampled = longer.cmi(0.3, r)
        assert 0.0 < sampled.stderr < 2e-3
        assert abs(sampled.value - exact.cmi(0.3, r).value) < 4.0 * sampled.stderr + 1e-4


@pytest.mark.parametrize(("flip", "level"), [(0.2, 0.5), (0.1, 0.7), (0.1, 0.95), (0.05, 0.7)])
def test_the_length_of_an_endless_hidden_chain(flip: float, level: float) -> None:
    """The decay of I(y_0 : y_{r+1} | y_1..y_r) by enumeration goes to it; what is left of r = 10, 11 alternates."""
    chain = HiddenMarkovChain(flip=flip)
    falls = []
    for r in (10, 11, 12):
        p = hidden_strings(r + 2, flip, 0.5 * level)
        ends = [p, p.sum(axis=0), p.sum(axis=-1), p.sum(axis=(0, -1))]
        falls.append(sum(s * table_entropy(each.ravel()) for s, each in zip((-1, 1, 1, -1), ends, strict=True)))
    rates = np.log(np.array(falls[:-1]) / falls[1:])
    assert 1.0 / rates.mean() == pytest.approx(chain.markov_length(level), rel=2e-3)
    assert chain.markov_length(0.0) == 0.0
    assert chain.markov_length(1.0) == pytest.approx(-0.5 / np.log(1.0 - 2.0 * flip))


def hidden_strings(n: int, flip: float, p: float) -> FloatArray:
    """P of all strings that are seen, shape (2,) * n, one site after the other."""
    table = np.full((1, 2), 0.5)  # strings so far, hidden bit
    step, seen = (np.array([[1.0 - q, q], [q, 1.0 - q]]) for q in (flip, p))
    for site in range(n):
        table = table @ step if site else table
        table = (table[:, None, :] * seen[None]).reshape(-1, 2)
    return np.asarray(table.sum(axis=1).reshape(n * (2,)))


@pytest.mark.slow
def test_what_is_measured_on_samples(tmp_path: Path) -> None:
    """Every model by every method that applies, over levels and widths: as far off as the errors say."""
    table = tmp_path / "cells.csv"
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "exact_models.py", "--runs", "1", "--csv", table],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    cells: dict[str, list[float]] = {}
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            cells.setdefault(row["case"], []).extend(float(z) for z in row["z"].split())
    assert len(cells) == 15
    assert {name.split("(")[0] for name in cells} == {
        "GaussianChain",
        "GaussianField",
        "Cat",
        "RepetitionCode",
        "HiddenMarkovChain",
        "EdgesOfLoops",
    }
    for name, z in cells.items():
        assert 0.3 < np.sqrt(np.mean(np.square(z))) < 1.8, name
    every = np.abs(np.concatenate(list(cells.values())))
    assert len(every) > 300
    assert np.mean(every > 3.0) < 0.015, done.stdout
    assert every.max() < 5.0, done.stdout


@pytest.mark.parametrize(
    "bad",
    [
        lambda: GaussianChain(L=2),
        lambda: GaussianChain(a=1.0),
        lambda: GaussianField(kappa=0.0),
        lambda: Cat(dims=3),
        lambda: HiddenMarkovChain(flip=0.5),
        lambda: ClosedLoops(L=7, side=1),
        lambda: ClosedLoops(L=104, side=1),
        lambda: ClosedLoops(L=6).cmi(0.2, 2),
        lambda: ClosedLoops(L=6).cmi(1.2, 1),
        lambda: GaussianChain().cmi(-0.1, 1),
        lambda: RepetitionCode().cmi(1.1, 1),
        lambda: unknown_sign(-1.0),
        lambda: unknown_sign_flipped(3, 0.7),
    ],
)
def test_bad_parameters(bad: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each says its own
        bad()  # type: ignore[operator]


def test_models_by_name() -> None:
    data = open_dataset("exact:chain?L=9&a=0.8&n=50&seed=3")
    assert data.shape == (9,)
    assert len(data) == 50
    np.testing.assert_array_equal(data.samples, GaussianChain(L=9, a=0.8).sample(50, 3))
    assert len(open_dataset("exact:loops?L=6&n=20", limit=7)) == 7
    assert open_dataset("exact:loops?L=6&n=20").channel_axis == 0
    assert any("--noise flip" in note for note in open_dataset("exact:repetition?n=10").notes)
    for name, message in (
        ("exact:ising", "no exact model 'ising': choose from chain, field"),
        ("exact:chain?b=3", "has no parameter 'b': it takes L, a, n, seed"),
        ("exact:chain?L=9.5", "L of the exact model 'chain' must be a number, got '9.5'"),
        ("exact:chain?L=", "must be a number, got ''"),
        ("exact:chain?n=0", "n must be at least 1"),
        ("exact:chain?a=2", "a chain lies between 0 and 1"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            open_dataset(name)
