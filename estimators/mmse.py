"""CMI by a network that denoises A, with and without what lies beyond its buffer (I-MMSE).

An SNR of its own is given to A.  While its surroundings stay at snr,

    I(A:C|B_r) = 1/2 int_0^snr { mmse(X_A | Y_A^g, Y_B) - mmse(X_A | Y_A^g, Y_B, Y_C) } dg,

all of Y_B and Y_C at snr (Guo, Shamai and Verdu, IEEE Trans. Inf. Theory 51, 1261 (2005), with the chain rule).
One network (`ShellNetwork` and a head that is told g and y) answers with the mean of x_A for all widths, levels and
g; the losses are those of samples that neither trained the network nor chose what they are read by, paired.

It is the loss of a denoiser, read as information, and knows nothing of the posterior but its mean: a second way to
what `posterior` finds by cross-entropies, with other errors.  Each integral is an upper bound of an information;
the difference errs by that of the two excesses.

As for posteriors, answers begin as those of a Gaussian, other pixels are learnt from, and for every level and width
the mean is a blend, weighed by other held-out samples, of those of the network, the Gaussian and the next narrower
buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from estimators.arguments import whole_at_least
from estimators.held_out import HeldOut
from estimators.known_noise import KnownNoise
from estimators.mean_stack import held_out_informations
from estimators.posterior_fitting import Fitting, checked_windows
from estimators.posterior_options import Asked, Trained, training_notes
from estimators.posterior_part import Part, splits
from estimators.profile import IntArray, Profile

if TYPE_CHECKING:
    from estimators.trainer import Look

__all__ = ["MMSEFit", "fit_mmse", "mmse_profile"]

_ROUNDING = 1e-5  # nats, of differences of losses in single precision


def mmse_profile(
    x: NDArray[np.floating],
    sizes: Sequence[int],
    *,
    snr: float | None = None,
    **options: Any,
) -> Profile:
    """CMI at every cut of clean samples with Gaussian noise on all columns.

    Parameters
    ----------
    x : (n, d) float array
        Clean samples, columns in the order A, S_1, ..., S_m.
    sizes : sequence of int
        (|A|, |S_1|, ..., |S_m|).
    snr : float
        alpha^2/sigma^2.
    **options
        Of `fit_mmse`.

    Returns
    -------
    Profile
        As of `MMSEFit.profile`.

    Examples
    --------
    Two numbers with a correlation of 0.8, noise as strong as they are: I(A:C) = -ln(1 - 0.4^2) / 2 = 0.0872.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> a, e = rng.standard_normal((2, 6000))
    >>> x = np.stack([a, 0.8 * a + 0.6 * e], axis=1)
    >>> found = mmse_profile(x, (1, 0, 1), snr=1.0, steps=60)
    >>> bool(abs(found.value[0] - 0.0872) < 0.03)
    True
    """
    if snr is None:
        raise ValueError("mmse is for clean samples with Gaussian noise of a known SNR, not for flips: give snr")
    KnownNoise.of(snr, None)
    fit = fit_mmse(
        x,
        sizes,
        snrs=[snr],
        **options,
    )
    return fit.profile(x, snr=snr)


def fit_mmse(
    x: NDArray[np.floating],
    sizes: Sequence[int],
    *,
    snrs: Iterable[float] = (),
    train_minutes: float = 6.0,
    steps: int | None = None,
    hidden: int = 16,
    layers: int = 3,
    queries: int | None = None,
    folds: int | None = None,
    neighbours: IntArray | None = None,
    device: str = "auto",
    network: str | Path | None = None,
    seed: int = 0,
    progress: Callable[[Look], None] | None = None,
) -> MMSEFit:
    """Train one network for all widths and levels.

    Parameters
    ----------
    x, sizes
        As in `mmse_profile`.
    snrs : iterable of float
        Levels that will be asked for.
    train_minutes, steps, hidden, layers, queries, folds, neighbours, device, network, seed, progress
        As in `estimators.posterior.fit_posterior`.

    Raises
    ------
    ImportError
        Without torch.
    TypeError, ValueError
        For fewer than 200 samples, a bad layout or option, a file of another network.
    RuntimeError
        If training diverges again and again.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).standard_normal((2000, 3))
    >>> fit = fit_mmse(x, (1, 1, 1), snrs=[0.5, 4.0], steps=20)
    >>> [bool(abs(fit.profile(x, snr=snr).value[0]) < 0.02) for snr in (0.5, 4.0)]
    [True, True]
    """
    near = checked_windows(x, sizes, neighbours, queries, folds)
    count = 1 if folds is None else whole_at_least(folds, "folds", 2)
    asked = Asked.of(
        [snr for snr in snrs if snr != np.inf],  # without noise there is no answer
        [],
        train_minutes=train_minutes,
        steps=steps,
        hidden=hidden,
        layers=layers,
        seed=seed,
        means=True,
        folds=folds or 1,
        queries=queries,
        neighbours=None if near is None else near.tolist(),
    )
    fitting = Fitting.of(x, sizes, asked, near, count, device=device, network=network, progress=progress)
    every = list(splits(len(x), folds, seed, queries))
    parts = [fitting.part(number, x, rows, count) for number, rows in enumerate(every)]
    places = fitting.file.places
    notes = [note for part in parts if part.training is not None for note in training_notes(part.training, places)]
    return MMSEFit(fitting.sizes, tuple(parts), len(x), seed, tuple(notes), Trained(tuple(places), False))


@dataclass(frozen=True, eq=False)
class MMSEFit:
    """Trained networks, which answer for every level; made by `fit_mmse`.

    Parameters
    ----------
    sizes : tuple of int
        (|A|, |S_1|, ..., |S_m|).
    parts : tuple
        Networks with the samples that each has not seen.
    n : int
        Samples that were fitted.
    seed : int
    notes : tuple of str
        How the training of each ended.
    trained : Trained
        The levels that they were trained for.
    """

    sizes: tuple[int, ...]
    parts: tuple[Part, ...]
    n: int
    seed: int
    notes: tuple[str, ...]
    trained: Trained

    def profile(self, x: NDArray[np.floating], *, snr: float) -> Profile:
        """CMI at every cut with independent noise on all columns, averaged over the samples that were held out.

        Parameters
        ----------
        x : (n, d) float array
            The samples that were fitted.
        snr : float
            Of Gaussian noise, alpha^2/sigma^2.

        Returns
        -------
        Profile
            `local` has one value per sample that was held out; NaN for an infinite SNR, up to which the integral is
            not to be had from samples.

        Raises
        ------
        ValueError
            If snr is out of range, or x is not what was fitted.
        """
        if x.shape != (self.n, sum(self.sizes)):
            raise ValueError(f"the networks belong to {self.n} samples of {sum(self.sizes)} columns, got {x.shape}")
        noise = KnownNoise.of(snr, None)
        cuts = len(self.sizes) - 2
        held_out = sum(len(part.test) for part in self.parts)
        if noise.sigma == 0.0:
            nothing = np.full((cuts, held_out), np.nan)
            note = "without noise the integral over SNRs has no end: NaN; leave out t = 0"
            return Profile(nothing[:, 0], nothing, np.zeros(cuts), (note,))
        outside = self.trained.notes(noise)
        parts = [held_out_informations(part, x, noise, self.sizes, self.seed) for part in self.parts]
        found = HeldOut.joined(parts)
        local = found.local
        notes = (f"averaged over {held_out} of the {self.n} samples, held out", *self.notes, *outside)
        notes += tuple(dict.fromkeys(note for part in self.parts for note in part.crowded_notes(noise)))
        return Profile(local.mean(axis=1), local, np.zeros(cuts), notes, least_variance=found.variance(_ROUNDING))
