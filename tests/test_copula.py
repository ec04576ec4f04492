"""The Gaussian copula: exact under any marginals, bias, ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, rankdata
from truths import chain

from estimators import copula_profile, normal_scores


def test_normal_scores() -> None:
    x = np.random.default_rng(0).standard_normal((101, 40))
    x[:30, 3] = 0.0
    expected = np.stack([norm.ppf(rankdata(column) / 102) for column in x.T], axis=1)
    np.testing.assert_allclose(normal_scores(x), expected, atol=1e-14)


@given(seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_monotone_maps_change_nothing(seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((60, 5))
    mapped = np.column_stack([np.exp(x[:, 0]), x[:, 1] ** 3, np.arctan(x[:, 2]), 5 * x[:, 3] - 2, -x[:, 4]])
    np.testing.assert_allclose(
        copula_profile(mapped, (1, 2, 2)).value, copula_profile(x, (1, 2, 2)).value, atol=1e-12
    )


@pytest.mark.slow
def test_truth_under_warped_marginals() -> None:
    """Mean over seeds: within 0.01 nats of a truth of 0.1 to 0.8, from data with exponential tails."""
    for a in (0.5, 0.9):
        model = chain(2, (1,), a=a)
        model_mi = chain(2, (), a=a)
        for m in (model, model_mi):
            sizes = m.sizes if len(m.sizes) > 2 else (1, 0, *m.sizes[1:])
            truth = type(m)(m.covariance, sizes).cmi()
            values = [copula_profile(np.exp(m.sample(1000, seed)), sizes).value for seed in range(100)]
            assert np.abs(np.mean(values, axis=0) - truth).max() < 0.01


def test_bad_layout() -> None:
    with pytest.raises(ValueError, match="add up to"):
        copula_profile(np.zeros((10, 3)), (1, 1, 2))
