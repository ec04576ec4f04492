"""Answers: the kernel against torch, for columns of A that have different numbers of values."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from estimators.known_noise import KnownNoise  # noqa: E402
from estimators.posterior_answers import Levels  # noqa: E402
from estimators.posterior_network import make_answers  # noqa: E402
from estimators.posterior_part import Part  # noqa: E402


def test_columns_of_A_with_few_values_beside_one_with_many() -> None:  # noqa: N802
    rng = np.random.default_rng(0)
    x = np.stack(
        [rng.integers(0, 2, 500), rng.integers(0, 5, 500), rng.standard_normal(500), rng.random(500)], axis=1
    )
    sizes = (3, 1)
    rows = np.arange(500)
    part = Part.of(x, sizes, rows, rows, rows, False)
    answers = make_answers(
        sizes,
        part.values,
        part.covariance,
        hidden=4,
        layers=1,
        seed=0,
        device=torch.device("cpu"),
        matmul=torch.float32,
    )
    assert [len(values.hats) for values in part.values] == [2, 5, 32]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in answers.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    levels = Levels.of([part.start(KnownNoise.of(2.0, None), sizes)] * 3, answers.device)
    clean = torch.as_tensor(part.units(x), dtype=torch.float32)
    noisy = levels.noisy(clean.expand(3, -1, -1), generator)
    seen = [answers.seen(clean[:, target], target, 0.3, generator) for target in range(3)]
    loss = answers.loss(noisy, [0, 1, 2], levels, seen)
    for target in range(3):
        posterior = answers.posteriors(noisy[[target]], target, levels.of_these([target]))[0][0]
        density = (posterior * seen[target][:, None, : posterior.shape[-1]].numpy()).sum(axis=-1)
        np.testing.assert_allclose(loss[target].detach().numpy(), -np.log(density), rtol=1e-4, atol=1e-4)
    (gradient,) = torch.autograd.grad(loss.sum(), [answers.network.exit])
    unused = gradient[..., 5:]
    assert np.isfinite(unused.numpy()).all()
    assert float(unused.abs().max()) > 0.0  # of the third column
    first = answers.loss(noisy[[0]], [0], levels.of_these([0]), seen[:1]).sum()
    (gradient,) = torch.autograd.grad(first, [answers.network.exit])
    assert float(gradient[..., 2:].abs().max()) == 0.0
