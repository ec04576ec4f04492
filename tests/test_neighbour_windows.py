"""Windows of the pixels next to A, and the network that learns from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmi.exact import GaussianChain
from cmi.regions import Partition, neighbour_windows


@given(
    shape=st.lists(st.integers(3, 6), min_size=1, max_size=3),
    channels=st.sampled_from([None, 0, -1]),
    radius=st.integers(0, 1),
    data=st.data(),
)
def test_a_window_is_the_partition_moved_by_one_pixel(
    shape: list[int], channels: int | None, radius: int, data: st.DataObject
) -> None:
    center = [data.draw(st.integers(radius, side - 1 - radius)) for side in shape]
    whole = [*shape]
    if channels is not None:
        whole.insert(0 if channels == 0 else len(whole), 2)
    if all(side <= 2 * radius + 1 for side in shape):
        return
    widths = (
        [0] if max(abs(c - e) for c, side in zip(center, shape, strict=True) for e in (0, side - 1)) < 3 else [1]
    )
    reach = data.draw(st.sampled_from([None, 2]))
    try:
        partition = Partition.centered(
            whole, center=center, radius=radius, widths=widths, reach=reach, channel_axis=channels
        )
    except ValueError:  # nothing left for C
        return
    columns = partition.columns
    at = np.stack(np.unravel_index(columns, whole), axis=1)
    windows = neighbour_windows(whole, partition, channels)
    steps = set()
    for window in windows:
        seen = window >= 0
        moved = at[window[seen]] - at[seen]
        assert (moved == moved[0]).all()
        assert np.abs(moved[0]).max() == 1
        if channels is not None:
            assert moved[0][channels] == 0
        steps.add(tuple(moved[0]))
        there = {tuple(row) for row in at}
        np.testing.assert_array_equal(seen, [tuple(row) in there for row in at + moved[0]])
        assert seen[: len(partition.A)].all()
    assert len(steps) == len(windows)  # each neighbour once
    assert len(windows) <= 3 ** len(shape) - 1
    if all(radius < c < side - 1 - radius for c, side in zip(center, shape, strict=True)):
        assert len(windows) == 3 ** len(shape) - 1


def test_a_network_that_learns_from_neighbours_too(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from estimators.posterior import fit_posterior

    chain = GaussianChain(L=9, a=0.9)
    partition = Partition.centered((9,), widths=[1, 2])
    x = chain.sample(12_000, 0)[:, partition.columns]
    windows = neighbour_windows((9,), partition)
    assert windows.shape == (2, 9)
    options: dict[str, Any] = {"snrs": [1.0, 5.0], "steps": 40}
    file = tmp_path / "network.pt"
    fit = fit_posterior(x, partition.sizes, **options, neighbours=windows, network=file)
    for snr, t in ((1.0, 0.5), (5.0, 1.0 / (1.0 + np.sqrt(5.0)))):
        found = fit.profile(x, snr=snr)
        truth = np.array([chain.cmi(t, r).value for r in (1, 2)])
        error = np.sqrt(np.diagonal(found.covariance()))
        assert (truth > 2.0 * error).all()
        assert (np.abs(found.value - truth) < 3.0 * error + 0.002).all()
    for part in fit.parts:  # read in the units that it was trained in, not those without the empty column
        assert part.answers is not None
        np.testing.assert_array_equal(part.values[0].known, part.answers.values[0].known)
    again = fit_posterior(x, partition.sizes, **options, neighbours=windows, network=file)
    np.testing.assert_array_equal(again.profile(x, snr=1.0).value, fit.profile(x, snr=1.0).value)
    with pytest.raises(ValueError, match="other samples or options"):
        fit_posterior(x, partition.sizes, **options, neighbours=windows[:1], network=file)
    with pytest.raises(ValueError, match="other samples or options"):
        fit_posterior(x, partition.sizes, **options, network=file)


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ([[0, 1]], "neighbours are 3 columns of every place"),
        ([[0.0, 1.0, 2.0]], "neighbours are 3 columns of every place"),
        ([[0, 1, 3]], "neighbours hold columns from 0 to 2"),
        ([[-1, 1, 2]], "neighbours hold columns from 0 to 2"),
    ],
)
def test_bad_neighbours(windows: list[list[int]], message: str) -> None:
    from estimators.posterior import fit_posterior

    with pytest.raises(ValueError, match=message):
        fit_posterior(np.zeros((300, 3)), (1, 1, 1), snrs=[1.0], neighbours=np.array(windows))


def test_neighbours_that_never_change_teach_nothing_and_harm_nothing() -> None:
    pytest.importorskip("torch")
    from estimators.posterior import fit_posterior

    rng = np.random.default_rng(0)
    x = rng.standard_normal((2000, 3))
    x[:, 0] = 0.8 * x[:, 2] + 0.6 * x[:, 0]
    x[:, 1] = 5.0
    fit = fit_posterior(x, (1, 1, 1), snrs=[1.0], steps=40, neighbours=np.array([[1, 0, -1], [2, -1, 0]]))
    found = fit.profile(x, snr=1.0)
    assert abs(found.value[0] + 0.5 * np.log(1.0 - 0.4**2)) < 4.0 * np.sqrt(found.covariance()[0, 0])
    several = fit_posterior(x, (2, 0, 1), snrs=[1.0], steps=2, neighbours=np.array([[1, 2, 0]]))  # left out
    assert several.profile(x, snr=1.0).value.shape == (1,)
