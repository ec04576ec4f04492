"""CMI by a network that learns the posterior of the clean A given what its noisy surroundings show.

The noise is known, so only the *clean* value needs a model.  One network (`ShellNetwork`) answers for all widths
and levels of noise with p(x_A | y_B); convolved with the noise of A that is p(y_A | y_B), and

    I(A:C|B) = < -ln p(y_A | y_B) > - < -ln p(y_A | y_B, y_C) >,

both averaged over samples that neither trained the network nor chose what they are read by, with fresh noise, the
noise of A integrated, and paired: the error of the difference is that of the mean of differences.  Each is the
cross-entropy of a normalised prediction, an upper bound of an entropy; the difference errs by that of the two
excesses.

To keep these small and alike, answers *begin* as those of a Gaussian (`posterior_data`), every shell adds a
correction to what the ones within it say, and for every level and width the answer is *stacked*, with weights
chosen by other held-out samples: of the network, of the Gaussian, and of the stack of the next narrower buffer.
A wider buffer can then hardly be worse than a narrower one.  And the network learns from more than A: other pixels,
to which others stand as its shells do to A, are trained on as well (`neighbours`), the network told which it is.

Several columns of A go one after the other, each given the noisy ones before it.
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
from estimators.known_noise import KnownNoise, bits
from estimators.posterior_fitting import Fitting, checked_windows
from estimators.posterior_options import Asked, Trained, training_notes
from estimators.posterior_part import Part, splits
from estimators.posterior_stack import held_out_entropies
from estimators.posterior_surrogate import PosteriorSurrogate, surrogate_samples
from estimators.profile import IntArray, Profile, SurrogateBias

if TYPE_CHECKING:
    from estimators.trainer import Look

__all__ = ["PosteriorFit", "fit_posterior", "posterior_profile"]

_SURROGATES = 6  # first word of the spawn key
_ROUNDING = 1e-5  # nats, of differences of cross-entropies


def posterior_profile(
    x: NDArray[np.floating],
    sizes: Sequence[int],
    *,
    snr: float | None = None,
    flip: float | None = None,
    **options: Any,
) -> Profile:
    """CMI at every cut of clean samples with known noise on all columns.

    Parameters
    ----------
    x : (n, d) float array
        Clean samples, columns in the order A, S_1, ..., S_m.
    sizes : sequence of int
        (|A|, |S_1|, ..., |S_m|).
    snr, flip
        As in `PosteriorFit.profile`; one of them.
    **options
        Of `fit_posterior`.

    Returns
    -------
    Profile
        As of `PosteriorFit.profile`.

    Examples
    --------
    Two numbers with a correlation of 0.8, noise as strong as they are: I(A:C) = -ln(1 - 0.4^2) / 2 = 0.0872.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> a, e = rng.standard_normal((2, 6000))
    >>> x = np.stack([a, 0.8 * a + 0.6 * e], axis=1)
    >>> found = posterior_profile(x, (1, 0, 1), snr=1.0, steps=60)
    >>> bool(abs(found.value[0] - 0.0872) < 0.03)
    True
    """
    KnownNoise.of(snr, flip)
    fit = fit_posterior(
        x,
        sizes,
        snrs=[] if snr is None else [snr],
        flips=[] if flip is None else [flip],
        **options,
    )
    return fit.profile(x, snr=snr, flip=flip)


def fit_posterior(
    x: NDArray[np.floating],
    sizes: Sequence[int],
    *,
    snrs: Iterable[float] = (),
    flips: Iterable[float] = (),
    train_minutes: float = 6.0,
    steps: int | None = None,
    hidden: int = 16,
    layers: int = 3,
    queries: int | None = None,
    folds: int | None = None,
    surrogates: int = 0,
    neighbours: IntArray | None = None,
    device: str = "auto",
    network: str | Path | None = None,
    seed: int = 0,
    progress: Callable[[Look], None] | None = None,
) -> PosteriorFit:
    """Train one network for all widths and levels.

    Of the samples one in six, at most 10,000, is held out to be averaged over (`queries`), and one in twelve, at
    most 4,000, to choose by: when to stop, and what to stack.

    Parameters
    ----------
    x, sizes
        As in `posterior_profile`.
    snrs, flips : iterables of float
        Levels that will be asked for: SNRs of Gaussian noise, or probabilities of flips.
    train_minutes : float
        About how long to train, in all.
    steps : int, optional
        Steps of training in place of the minutes; the result then does not depend on the speed of the machine, but
        for rounding: matrices are multiplied in bfloat16 where that is faster.
    hidden, layers : int
        Units per block, of which inner shells have several, and layers of the network. Default: 16 and 3; 32 units
        learn hardly more in as many steps, each of which takes nearly twice as long.
    queries : int, optional
        Samples to hold out and average over, at most half of them; errors fall as queries^(-1/2), and fewer are
        left to train on. Default: one in six, at most 10,000.
    folds : int, optional
        Train so many networks, each without another part of the samples, so that every sample is held out once.
        Default: one network, and one part.
    surrogates : int
        Train as many more networks, each as long, on Gaussian data of the same size and covariance, whose CMI is
        known: what they miss is the `surrogate` of the profile. 0 (default): none. Not for flips.
    neighbours : (places, d) array of int, optional
        Of other columns, which stand to one another as A and its shells do, those in the same order; -1 where there
        is none. A network that is trained on them as well learns more of A from as many samples. For an A of one
        column that is no bit of a code.
    device : str
        "auto" (CUDA, MPS or the CPU, whichever there is first), or a device of torch.
    network : path, optional
        File of the network: training is saved there every minute and goes on from there; once it is done, the
        file spares it.
    seed : int
    progress : callable, optional
        Takes a `Look` at the held-out loss, sixteen times.

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
    >>> coins = np.random.default_rng(0).integers(0, 2, (2000, 3)).astype(float)
    >>> fit = fit_posterior(coins, (1, 1, 1), flips=[0.05, 0.2], steps=60)
    >>> [bool(abs(fit.profile(coins, flip=flip).value[0]) < 0.02) for flip in (0.05, 0.2)]
    [True, True]
    """
    near = checked_windows(x, sizes, neighbours, queries, folds)
    count = (1 if folds is None else whole_at_least(folds, "folds", 2)) + whole_at_least(
        surrogates, "surrogates", 0
    )
    asked = Asked.of(
        snrs,
        flips,
        train_minutes=train_minutes,
        steps=steps,
        hidden=hidden,
        layers=layers,
        seed=seed,
        folds=folds or 1,
        surrogates=surrogates,
        queries=queries,
        neighbours=None if near is None else near.tolist(),
    )
    if asked.binary and surrogates:
        raise ValueError("surrogates are Gaussian, which flips are not for: leave them out")
    fitting = Fitting.of(x, sizes, asked, near, count, device=device, network=network, progress=progress)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_SURROGATES,)))
    every = list(splits(len(x), folds, seed, queries))
    parts = [fitting.part(number, x, rows, len(every)) for number, rows in enumerate(every)]
    gaussian = []
    for number in range(surrogates):
        drawn, covariance = surrogate_samples(x, rng)
        part = fitting.part(len(parts) + number, drawn, every[0], 1)
        gaussian.append(PosteriorSurrogate.of(part, drawn, covariance))
    places = fitting.file.places
    notes = [note for part in parts if part.training is not None for note in training_notes(part.training, places)]
    if any(part.code is not None for part in parts):
        notes.append("clean bits obey parities: the uniform distribution over all that do is among the predictions")
    shape, trained = tuple(int(size) for size in sizes), Trained(tuple(places), asked.binary)
    return PosteriorFit(shape, tuple(parts), len(x), seed, tuple(notes), trained, tuple(gaussian))


@dataclass(frozen=True, eq=False)
class PosteriorFit:
    """Trained networks, which answer for every level; made by `fit_posterior`.

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
    surrogates : tuple
        Networks on Gaussian data.
    """

    sizes: tuple[int, ...]
    parts: tuple[Part, ...]
    n: int
    seed: int
    notes: tuple[str, ...]
    trained: Trained
    surrogates: tuple[PosteriorSurrogate, ...] = ()

    def profile(self, x: NDArray[np.floating], *, snr: float | None = None, flip: float | None = None) -> Profile:
        """CMI at every cut with independent noise on all columns, averaged over the samples that were held out.

        Parameters
        ----------
        x : (n, d) float array
            The samples that were fitted.
        snr : float, optional
            Of Gaussian noise, alpha^2/sigma^2. Infinite: of the clean values themselves, told apart as far as
            256 bins do.
        flip : float, optional
            Probability of a flip, in [0, 1/2], for data of two values; instead of the SNR.

        Returns
        -------
        Profile
            `local` has one value per sample that was held out.

        Raises
        ------
        ValueError
            If not one of snr and flip is given, or it is out of range; if x is not what was fitted.
        """
        if x.shape != (self.n, sum(self.sizes)):
            raise ValueError(f"the networks belong to {self.n} samples of {sum(self.sizes)} columns, got {x.shape}")
        noise = KnownNoise.of(snr, flip)
        outside = self.trained.notes(noise)
        cuts = len(self.sizes) - 2
        clean = bits(x.astype(np.float64)) if self.parts[0].binary else x
        parts = [held_out_entropies(part, clean, noise, self.sizes, self.seed) for part in self.parts]
        found = HeldOut.joined(parts)
        local = found.local
        held_out = local.shape[1]
        notes = [f"averaged over {held_out} of the {self.n} samples, held out", *self.notes, *outside]
        notes += dict.fromkeys(note for part in self.parts for note in part.crowded_notes(noise))
        if noise.sigma == 0.0 and not noise.flip and not all(v.every for part in self.parts for v in part.values):
            notes.append("values of A are told apart as far as 256 bins do, which lowers the CMI without noise")
        surrogate = None
        if self.surrogates:
            both = [each.differences(noise, self.sizes, self.seed) for each in self.surrogates]
            surrogate = SurrogateBias(np.concatenate([off for off, _ in both], axis=1), both[0][1])
        return Profile(
            local.mean(axis=1),
            local,
            np.zeros(cuts),
            tuple(notes),
            least_variance=found.variance(_ROUNDING),
            surrogate=surrogate,
        )
