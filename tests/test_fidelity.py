"""The fidelity bound on random tables and Gaussians, its equality cases, the integrals of I-MMSE and Girsanov."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cmi.exact import Exact, GaussianChain
from cmi.exact.two_states import unknown_sign
from cmi.fidelity import (
    Bound,
    diffusion_bound,
    exact_recovery,
    exact_recovery_gaussian,
    i_mmse_cmi,
    mmse_gap_bound,
    recovery_bound,
    sequence_bound,
)
from cmi.testing import channels, check_denoiser, check_gaussian_recovery, check_recovery, gaussians, tables

FloatArray = NDArray[np.float64]
Channel = Callable[[int], FloatArray]


def entropy(p: FloatArray) -> float:
    return float(-(p[p > 0.0] * np.log(p[p > 0.0])).sum())


def cmi(p: FloatArray) -> float:
    """I of the first axis and the last, given the middle ones."""
    p = p.reshape(p.shape[0], -1, p.shape[-1])
    return entropy(p.sum(axis=2)) + entropy(p.sum(axis=0)) - entropy(p.sum(axis=(0, 2))) - entropy(p)


@settings(max_examples=2000, deadline=None)
@given(p=tables(), channel_of=channels())
def test_the_bound_holds_on_tables(p: FloatArray, channel_of: Channel) -> None:
    """And I(X_A:C|Y_A B) = I(X_A:C|B) - I(Y_A:C|B), computed by itself."""
    channel = channel_of(len(p))
    recovery = check_recovery(p, channel)
    joint = np.einsum("ya,abc->aybc", channel, p)
    assert recovery.bound.kl == pytest.approx(cmi(joint), abs=1e-9)
    assert recovery.cmi_before == pytest.approx(cmi(p), abs=1e-12)


@settings(max_examples=1000, deadline=None)
@given(model=gaussians())
def test_the_bound_holds_on_gaussians(model: tuple[FloatArray, tuple[int, int, int], float]) -> None:
    check_gaussian_recovery(*model)


@settings(max_examples=500, deadline=None)
@given(p=tables(), channel_of=channels(), seed=st.integers(0, 2**32 - 1))
def test_any_local_denoiser_loses_no_more_than_it_is_off(p: FloatArray, channel_of: Channel, seed: int) -> None:
    channel = channel_of(len(p))
    rng = np.random.default_rng(seed)
    denoiser = rng.dirichlet(np.ones(len(p)), size=(len(channel), p.shape[1])).transpose(2, 0, 1)
    check_denoiser(p, channel, denoiser)


def test_checkers_fail_where_they_must() -> None:
    """Each broken bound is named."""
    p = np.random.default_rng(0).dirichlet(np.ones(8)).reshape(2, 2, 2)
    channel = np.array([[0.9, 0.2], [0.1, 0.8]])
    good = exact_recovery(p, channel)
    from cmi.testing import _check

    for name, value, message in (
        ("kl", good.bound.kl + 1e-6, "KL must lie between 0 and its bound"),
        ("kl", -1e-6, "KL must lie"),
        ("cmi_after", good.cmi_before + 1e-6, "noise on A must not raise"),
        ("cmi_after", -1e-6, "must not be negative"),
        ("fidelity", 0.5, "fidelity must not be below"),
        ("total_variation", 0.9, "total variation must not exceed"),
    ):
        broken = type(good)(**{**{f: getattr(good, f) for f in good.__dataclass_fields__}, name: value})
        with pytest.raises(AssertionError, match=message):
            _check(broken)


@settings(max_examples=300, deadline=None)
@given(p=tables(), seed=st.integers(0, 2**32 - 1))
def test_equality_cases(p: FloatArray, seed: int) -> None:
    """A permutation loses nothing, erasure I(A:C|B) exactly, and where A-B-C is Markov nothing is ever lost."""
    a = len(p)
    order = np.random.default_rng(seed).permutation(a)
    assert exact_recovery(p, np.eye(a)[order]).kl == pytest.approx(0.0, abs=1e-12)
    erased = exact_recovery(p, np.ones((1, a)))
    assert erased.kl == pytest.approx(erased.cmi_before, abs=1e-9)
    assert erased.cmi_after == pytest.approx(0.0, abs=1e-12)
    ab, bc, b = p.sum(axis=2), p.sum(axis=0), p.sum(axis=(0, 2))
    markov = ab[:, :, None] * bc[None] / np.where(b > 0.0, b, 1.0)[None, :, None]
    markov /= markov.sum()
    channel = np.random.default_rng(seed).dirichlet(np.ones(3), size=a).T
    assert exact_recovery(markov, channel).kl == pytest.approx(0.0, abs=1e-9)


@settings(max_examples=300, deadline=None)
@given(p=tables(most=3), on_a=channels(most=3), on_c=channels(most=3))
def test_noise_on_the_ends_never_raises_the_cmi(p: FloatArray, on_a: Channel, on_c: Channel) -> None:
    both = np.einsum("ya,abc,zc->ybz", on_a(p.shape[0]), p, on_c(p.shape[2]))
    assert cmi(both) <= cmi(p) + 1e-9


def test_noise_on_the_buffer_can_raise_it() -> None:
    """Three equal bits: B knows all, until it is erased."""
    bits = np.zeros((2, 2, 2))
    bits[0, 0, 0] = bits[1, 1, 1] = 0.5
    erased = np.einsum("yb,abc->ayc", np.full((2, 2), 0.5), bits)
    assert cmi(bits) == pytest.approx(0.0, abs=1e-12)
    assert cmi(erased) == pytest.approx(np.log(2.0))


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_losses_of_a_sequence_add(seed: int) -> None:
    """Sites of a random string erased one after the other and recovered in reverse from a noised buffer each.

    The last site to be noised is the first to be recovered; its buffer, its left neighbour, is clean or noised as
    it was then. The whole loss is at most the sum of the bounds.
    """
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(8, 0.5)).reshape(2, 2, 2)
    flip = 0.3
    w = np.array([[1 - flip, flip], [flip, 1 - flip]])
    # forward: site 0, then site 1; site 2 stays. Buffers: of site 0 site 1 (clean), of site 1 site 0 (noised)
    first = np.einsum("ya,abc->ybc", w, p)
    second = np.einsum("zb,ybc->yzc", w, first)
    step_two = exact_recovery(first.transpose(1, 0, 2), w)
    step_one = exact_recovery(p, w)

    def rule(before: FloatArray) -> FloatArray:
        """P(x | y, b) of the axes (x, b, c) and the channel on x."""
        seen = np.einsum("yx,xbc->xyb", w, before)
        return np.asarray(seen / seen.sum(axis=0, keepdims=True))

    back = np.einsum("bzy,yzc->ybc", rule(first.transpose(1, 0, 2)), second)
    back = np.einsum("ayb,ybc->abc", rule(p), back)
    loss = float((p * (np.log(p) - np.log(back))).sum())
    total = sequence_bound([step_one.bound, step_two.bound])
    assert -1e-12 <= loss <= total.kl + 1e-9
    assert 0.5 * np.abs(p - back).sum() <= total.total_variation + 1e-9
    assert np.sqrt(p * back).sum() >= total.fidelity - 1e-9


def test_bounds_carry_errors() -> None:
    bound = recovery_bound(Exact(0.05, 0.003), Exact(0.02, 0.004))
    assert bound.kl == pytest.approx(0.03)
    assert bound.stderr == pytest.approx(0.005)
    total = sequence_bound([bound, bound, Bound(0.1, 0.0, 1e-3)])
    assert total.kl == pytest.approx(0.16)
    assert total.stderr == pytest.approx(0.005 * np.sqrt(2.0))
    assert total.quadrature_error == 1e-3
    negative = recovery_bound(0.01, 0.02)
    assert negative.kl == pytest.approx(-0.01)  # never clipped
    assert (negative.total_variation, negative.fidelity) == (0.0, 1.0)
    assert recovery_bound(0.1).kl == 0.1


# I-MMSE: closed forms on Gaussians


def mmse(covariance: FloatArray, target: list[int], noise: FloatArray) -> float:
    """Sum of Var(X_i | all columns with noise of these precisions) over the target columns."""
    precision = np.linalg.inv(covariance) + np.diag(noise)
    return float(np.trace(np.linalg.inv(precision)[np.ix_(target, target)]))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), snr=st.floats(0.05, 30.0))
def test_i_mmse_in_both_forms(seed: int, snr: float) -> None:
    """Against determinants, to 1e-8."""
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((5, 5))
    s = root @ root.T / 5.0 + 0.2 * np.eye(5)
    a, b, c = [0], [1, 2], [3, 4]
    noisy = s + np.eye(5) / snr

    def h(columns: list[int]) -> float:
        return 0.5 * float(np.linalg.slogdet(noisy[np.ix_(columns, columns)])[1])

    expected = h(a + b) + h(b + c) - h(b) - h(a + b + c)

    def part(columns: list[int], g: float) -> float:
        block = s[np.ix_(columns, columns)]
        return mmse(block, list(range(len(columns))), np.full(len(columns), g))

    four = i_mmse_cmi(snr, lambda g: part(a + b, g) + part(b + c, g), lambda g: part(b, g) + part(a + b + c, g))
    assert four.value == pytest.approx(expected, abs=1e-8)

    def given_rest(columns: list[int], g: float) -> float:
        block = s[np.ix_(a + columns, a + columns)]
        return mmse(block, [0], np.array([g, *[snr] * len(columns)]))

    two = i_mmse_cmi(snr, lambda g: given_rest(b, g), lambda g: given_rest(b + c, g))
    assert two.value == pytest.approx(expected, abs=1e-8)
    grid = np.concatenate([[0.0], np.geomspace(1e-3, snr, 60)])
    arrays = i_mmse_cmi(grid, [given_rest(b, g) for g in grid], [given_rest(b + c, g) for g in grid])
    assert arrays.value == pytest.approx(expected, abs=3.0 * arrays.quadrature_error + 1e-9)
    assert arrays.quadrature_error < 0.05 * expected + 1e-6


def test_errors_of_losses_reach_the_integral() -> None:
    """The spread of the integral over noisy losses is the error that is claimed."""
    snr = np.linspace(0.0, 4.0, 9)
    gap, sd = 1.0 / (1.0 + snr), 0.01 * (1.0 + snr)
    rng = np.random.default_rng(0)
    results = [
        i_mmse_cmi(snr, gap + sd * rng.standard_normal(9), np.zeros(9), covariance=np.diag(sd**2))
        for _ in range(2000)
    ]
    assert np.std([r.value for r in results]) == pytest.approx(results[0].stderr, rel=0.1)


def test_the_girsanov_integral_of_a_chain() -> None:
    """Local losses of a Gaussian chain against global ones: the integral by fine steps, and its stated error."""
    s = GaussianChain(L=15).covariance

    def losses(radius: int, snr: float) -> float:
        total = 0.0
        for i in range(15):
            near = list(range(max(0, i - radius), min(15, i + radius + 1)))
            total += mmse(s[np.ix_(near, near)], [near.index(i)], np.full(len(near), snr))
        return total

    fine = np.geomspace(1e-4, 1e3, 400)
    gap = np.array([losses(1, g) - losses(15, g) for g in fine])
    assert (gap > 0.0).all()
    expected = float(0.5 * (np.diff(fine) * 0.5 * (gap[1:] + gap[:-1])).sum())
    coarse = np.geomspace(1e-4, 1e3, 40)
    bound = diffusion_bound(coarse, [losses(1, g) for g in coarse], [losses(15, g) for g in coarse], prior=0.25)
    assert bound.kl - 0.25 == pytest.approx(expected, abs=bound.quadrature_error + 1e-4)
    assert 0.0 < bound.quadrature_error < 0.05 * expected


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), snr=st.floats(0.05, 20.0))
def test_the_gap_bound_on_bounded_data(seed: int, snr: float) -> None:
    """X_A in [-1, 1] of three values, Y_A seen through Gaussian noise by quadrature; B and C of a random table."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(12, 0.6)).reshape(3, 2, 2)
    x = np.array([-1.0, rng.uniform(-1.0, 1.0), 1.0])
    y = np.linspace(-1.0 - 9.0 / np.sqrt(snr), 1.0 + 9.0 / np.sqrt(snr), 3001)
    density = np.exp(-0.5 * snr * (y[:, None] - x) ** 2) * np.sqrt(snr / (2.0 * np.pi)) * (y[1] - y[0])
    joint = np.einsum("ya,abc->yabc", density, p)

    def loss(seen: FloatArray) -> float:
        """Squared error of X_A from the axes (y, a, ...)."""
        total = seen.sum(axis=1)
        mean = np.tensordot(x, seen, axes=(0, 1)) / np.where(total > 0.0, total, 1.0)
        return float(np.tensordot(x**2, seen, axes=(0, 1)).sum() - (mean**2 * total).sum())

    local, wide = loss(joint.sum(axis=3)), loss(joint)
    left = cmi(joint.transpose(1, 0, 2, 3))  # I(X_A : C | Y_A B)
    assert -1e-9 <= local - wide <= mmse_gap_bound(local, left, largest=1.0).item() + 1e-9


def test_the_cat_by_i_mmse() -> None:
    """Mmse of a sign is 1 - E tanh(s + sqrt(s) z); its integral is ln 2 - D."""
    z, weights = np.polynomial.hermite_e.hermegauss(150)
    weights = weights / weights.sum()

    def sign_loss(g: float) -> float:
        return float(1.0 - weights @ np.tanh(g + np.sqrt(g) * z))

    for snr in (0.3, 2.0):
        value = i_mmse_cmi(snr, sign_loss, lambda _: 0.0).value
        assert value == pytest.approx(np.log(2.0) - unknown_sign(snr), abs=1e-7)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: recovery_bound(np.inf, 0.1), ValueError, "must be finite"),
        (lambda: exact_recovery(np.full((2, 2, 2), 0.2), np.eye(2)), ValueError, "p_abc must add up to 1"),
        (lambda: exact_recovery(np.full((2, 2), 0.25), np.eye(2)), ValueError, "p_abc must have 3 axes"),
        (
            lambda: exact_recovery(np.full((2, 2, 2), 0.125), np.eye(3)),
            ValueError,
            "takes 3 letters of A, p_abc has 2",
        ),
        (lambda: exact_recovery(np.full((2, 2, 2), 0.125), -np.eye(2)), ValueError, "none negative"),
        (
            lambda: exact_recovery(np.full((2, 2, 2), 0.125), np.eye(2), np.full((2, 2, 3), 0.5)),
            ValueError,
            r"the denoiser must have shape \(a, y, b\) = \(2, 2, 2\)",
        ),
        (lambda: exact_recovery_gaussian(np.eye(3), (1, 1, 2), 1.0), ValueError, "do not go with a covariance"),
        (lambda: exact_recovery_gaussian(np.eye(3), (1, 1, 1), 0.0), ValueError, "must be positive"),
        (lambda: diffusion_bound([1.0, 0.5], [1.0, 1.0], [0.5, 0.5]), ValueError, "must rise"),
        (lambda: diffusion_bound([1.0], [1.0], [0.5]), ValueError, "two SNRs or more"),
        (lambda: diffusion_bound([0.0, np.inf], [1.0, 1.0], [0.5, 0.5]), ValueError, "must be finite"),
        (
            lambda: diffusion_bound([0.0, 1.0], [1.0, 1.0], [0.5, 0.5], covariance=np.eye(3)),
            ValueError,
            r"must be \(2, 2\)",
        ),
        (lambda: i_mmse_cmi([0.5, 1.0], [1.0, 1.0], [0.5, 0.5]), ValueError, "begins at an SNR of 0"),
        (lambda: i_mmse_cmi(1.0, lambda g: g, [1.0]), TypeError, "both arrays, or both functions"),
        (lambda: i_mmse_cmi(-1.0, lambda g: g, lambda g: g), ValueError, "not negative"),
        (lambda: mmse_gap_bound(0.1, 0.1, largest=0.0), ValueError, "must be positive"),
    ],
)
def test_bad_arguments(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
