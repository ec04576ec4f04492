"""CMI at many places of an image by one posterior network: A is one pixel, its shells the same window everywhere.

The method is that of `posterior`: answers begin as those of the Gaussian of every place, one network corrects them,
and at every place, level and width they are stacked by held-out samples.  The network is told the place and sees
a window around it, in which nothing is outside the image; what it learns at one place serves the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from estimators.arguments import whole_at_least
from estimators.known_noise import KnownNoise, bits
from estimators.posterior_data import Values
from estimators.posterior_options import LEAST_SAMPLES, Asked, Trained, need_torch, training_notes
from estimators.posterior_part import Part, splits, spread
from estimators.posterior_stack import held_out_entropies
from estimators.profile import IntArray, Profile
from estimators.threads import one_blas_thread

if TYPE_CHECKING:
    import torch

    from estimators.posterior_network import NetworkFile
    from estimators.trainer import Look, Settings, Training

__all__ = ["PlacedPosterior", "fit_posterior_places", "trained_at_places", "with_empty"]

_ROUNDING = 1e-5  # nats, of differences of cross-entropies
_WEIGHED_BY = 2000  # samples by which the weights of a place are chosen at first, at most


def fit_posterior_places(
    x: NDArray[np.floating],
    windows: IntArray,
    sizes: Sequence[int],
    *,
    snrs: Iterable[float] = (),
    flips: Iterable[float] = (),
    train_minutes: float = 6.0,
    steps: int | None = None,
    hidden: int = 16,
    layers: int = 3,
    queries: int = 2000,
    device: str = "auto",
    network: str | Path | None = None,
    seed: int = 0,
    progress: Callable[[Look], None] | None = None,
) -> PlacedPosterior:
    """Train one network for all places, widths and levels.

    Parameters
    ----------
    x : (n, d) float array
        Clean samples.
    windows : (places, 1 + D) array of int
        Of every place the columns of A and its shells; -1 where they would lie outside.
    sizes : sequence of int
        (1, |S_1|, ..., |S_m|), outside or not.
    snrs, flips, train_minutes, steps, hidden, layers, device, network, seed, progress
        As in `fit_posterior`.
    queries : int
        Held-out samples that are averaged over, at most; the same at all places.

    Raises
    ------
    ImportError
        Without torch.
    TypeError, ValueError
        As `fit_posterior`; for windows that name no column.
    RuntimeError
        If training diverges again and again.

    Examples
    --------
    Four coins, of which the last repeats the one before it.

    >>> import numpy as np
    >>> coins = np.random.default_rng(0).integers(0, 2, (3000, 4)).astype(float)
    >>> coins[:, 3] = coins[:, 2]
    >>> windows = np.array([[0, 1, 2], [2, 1, 3]])
    >>> fit = fit_posterior_places(coins, windows, (1, 1, 1), flips=[0.1], steps=60)
    >>> [bool(fit.profile(coins, place, flip=0.1).value[0] > 0.1) for place in (0, 1)]
    [False, True]
    """
    d = x.shape[1]
    windows = np.asarray(windows, dtype=np.int64)
    if windows.ndim != 2 or windows.shape[1] != sum(sizes) or sizes[0] != 1 or len(windows) == 0:
        raise ValueError(
            f"windows are {sum(sizes)} columns of every place, that of A first, got {windows.shape} for {sizes}"
        )
    if windows.max() >= d or windows.min() < -1 or windows[:, 0].min() < 0:
        raise ValueError(f"windows hold columns from 0 to {d - 1}, of the shells also -1, where there is none")
    if len(x) < LEAST_SAMPLES:
        raise ValueError(f"a posterior network needs at least {LEAST_SAMPLES} samples, got {len(x)}")
    queries = whole_at_least(queries, "queries", 2)
    asked = Asked.of(
        snrs,
        flips,
        train_minutes=train_minutes,
        steps=steps,
        hidden=hidden,
        layers=layers,
        seed=seed,
        windows=windows.tolist(),
    )
    need_torch(asked.method)
    from estimators.posterior_network import NetworkFile, find_device

    where = find_device(device)
    train, validation, test = next(iter(splits(len(x), None, seed)))
    clean = with_empty(bits(x.astype(np.float64)) if asked.binary else x)
    whole = Part.of(clean, (1, d), train, validation, spread(test, queries), asked.binary)
    file = NetworkFile(network, asked.fingerprint(x, sizes), asked.places, 1)
    parts, training = trained_at_places(
        whole, clean, windows, sizes, asked, asked.settings(), device=where, file=file, progress=progress
    )
    notes = [] if training is None else training_notes(training, file.places)
    shape = tuple(int(size) for size in sizes)
    trained = Trained(tuple(file.places), asked.binary)
    return PlacedPosterior(shape, windows, tuple(parts), len(x), d, seed, tuple(notes), trained, float(x.min()))


@dataclass(frozen=True, eq=False)
class PlacedPosterior:
    """A trained network that answers at every place for every level; made by `fit_posterior_places`.

    Parameters
    ----------
    sizes : tuple of int
        (1, |S_1|, ..., |S_m|).
    windows : (places, 1 + D) array of int
    parts : tuple
        Of every place.
    n, d : int
        Samples that were fitted, and their columns.
    seed : int
    notes : tuple of str
        How the training ended.
    trained : Trained
        The levels that the network was trained for.
    low : float
        The lowest of all values: of bits the one that is 0.
    """

    sizes: tuple[int, ...]
    windows: IntArray
    parts: tuple[Part, ...]
    n: int
    d: int
    seed: int
    notes: tuple[str, ...]
    trained: Trained
    low: float

    def profile(
        self, x: NDArray[np.floating], place: int, *, snr: float | None = None, flip: float | None = None
    ) -> Profile:
        """CMI at every cut around one place with independent noise on all columns.

        Parameters
        ----------
        x : (n, d) float array
            The samples that were fitted.
        place : int
            Row of the windows.
        snr, flip : float, optional
            As in `PosteriorFit.profile`; one of them.
        """
        if x.shape != (self.n, self.d):
            raise ValueError(f"the network belongs to {self.n} samples of {self.d} columns, got {x.shape}")
        noise = KnownNoise.of(snr, flip)
        outside = self.trained.notes(noise)
        part = self.parts[place]
        held = spread(part.validation, _WEIGHED_BY)
        rows = np.concatenate([held, part.test])  # the others are not looked at
        some = x[rows]
        clean = with_empty((some > self.low).astype(np.float64) if part.binary else some)[:, self.windows[place]]
        few = replace(part, validation=np.arange(len(held)), test=np.arange(len(held), len(rows)))
        found = held_out_entropies(few, clean, noise, self.sizes, self.seed, mixture=False)
        local = found.local
        notes = (f"averaged over {len(part.test)} of the {self.n} samples, held out", *self.notes, *outside)
        notes += tuple(part.crowded_notes(noise))
        cuts = len(self.sizes) - 2
        return Profile(local.mean(axis=1), local, np.zeros(cuts), notes, least_variance=found.variance(_ROUNDING))


def trained_at_places(
    whole: Part,
    clean: NDArray[np.floating],
    windows: IntArray,
    sizes: Sequence[int],
    asked: Asked,
    settings: Settings,
    *,
    device: torch.device,
    file: NetworkFile,
    number: int = 0,
    progress: Callable[[Look], None] | None = None,
    alone: bool = False,
) -> tuple[list[Part], Training | None]:
    """Train one network for several places, and return a part for each.

    Parameters
    ----------
    whole : Part
        Of all columns and an empty one.
    clean : (n, d + 1) array
        Samples, the last column empty.
    windows : (places, 1 + D) array of int
        -1: the empty column.
    sizes, asked, settings
        What is asked for, and how to train.
    device, file, number, progress
        As in `trained_answers`.
    alone : bool
        Whether only the first place matters; the others are there to learn from.
    """
    from estimators.mean_answers import FEATURES, PlacedMeans
    from estimators.placed_answers import PlacedAnswers, make_placed_answers
    from estimators.posterior_network import leading_components, trained_answers

    parts = [_placed(whole, clean, window) for window in windows]
    vary = [place for place, part in enumerate(parts) if not part.constant]
    if not vary or not asked.noises:
        return parts, None
    inner = np.zeros((windows.shape[1] - 1,) * 2)
    for window in windows[vary]:
        inner += whole.scaled_covariance(window[1:]) / len(vary)
    with one_blas_thread():
        components = leading_components(inner, sizes[1:], asked.hidden // 2)
    make = partial(
        make_placed_answers,
        sizes,
        [parts[place].values[0] for place in vary],
        windows[vary],
        components,
        len(asked.noises),
        hidden=asked.hidden,
        layers=asked.layers,
        alone=alone,
        kind=PlacedMeans if asked.means else PlacedAnswers,
        outputs=FEATURES if asked.means else None,
    )
    starts = []
    for noise in asked.noises:
        each = [parts[place].start(noise, sizes) for place in vary]
        starts.append(
            replace(
                each[0],
                mean=np.concatenate([start.mean for start in each]),
                weights=np.concatenate([start.weights for start in each]),
                variance=np.concatenate([start.variance for start in each]),
                size=np.concatenate([start.size for start in each]),
            )
        )
    answers, training = trained_answers(
        make,
        starts,
        whole.units(clean[whole.train]),
        whole.units(clean[whole.validation]),
        settings,
        device=device,
        file=file,
        number=number,
        progress=progress,
    )
    for row, place in enumerate(vary):
        parts[place].answers = answers.at(row)
    return parts, training


def with_empty(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Samples with one more column, of nothing: what lies outside."""
    return np.concatenate([x, np.zeros((len(x), 1), dtype=x.dtype)], axis=1)


def _placed(whole: Part, clean: NDArray[np.floating], window: IntArray) -> Part:
    """What a part of the samples is at one place: the columns of a window, in the units of the whole."""
    own = clean[whole.train, window[0]]
    values = Values.of(whole.units(own[:, None], window[:1].tolist())[:, 0])
    return replace(whole, values=(values,), window=window)
