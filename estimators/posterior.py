"""CMI by a network that learns the posterior of the clean A given what its noisy surroundings show.

The noise is known, so only the *clean* value needs a model.  One network (`ShellNetwork`) answers for all widths
and levels of noise with p(x_A | y_B); convolved with the noise of A that is p(y_A | y_B), and

    I(A:C|B) = < -ln p(y_A | y_B) > - < -ln p(y_A | y_B, y_C) >,

both averaged over samples that neither trained the network nor chose anything, with fresh noise, the noise of A
integrated, and paired: the error of the difference is that of the mean of differences.  Each is the cross-entropy
of a normalised prediction, an upper bound of an entropy; the difference errs by that of the two excesses.

To keep these small and alike, answers *begin* as those of a Gaussian (`posterior_data`), every shell adds a
correction to what the ones within it say, and for every level and width the answer is *stacked*, with weights
chosen by other held-out samples: of the network, of the Gaussian, and of the stack of the next narrower buffer.
A wider buffer can then hardly be worse than a narrower one.

Several columns of A go one after the other, each given the noisy ones before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from estimators.arguments import whole_at_least
from estimators.known_noise import KnownNoise, bits
from estimators.noised_posterior import cross_entropy, flipped_cross_entropy
from estimators.posterior_data import Start, Values, gaussian_posteriors
from estimators.profile import FloatArray, IntArray, Profile, check_layout
from estimators.stacking import stacking_weights
from estimators.threads import one_blas_thread

if TYPE_CHECKING:
    from estimators.posterior_answers import Answers
    from estimators.posterior_training import Look

__all__ = ["PosteriorFit", "fit_posterior", "posterior_profile"]

_LEAST = 200  # samples
_TEST, _VALIDATION = (1 / 6, 10_000), (1 / 12, 4_000)  # share of the samples, and at most so many
_RATE, _BATCH = 2e-3, 512
_CHUNK = 500  # samples whose posteriors are held together
_DRAWS = 4  # noisy values of A by which a stack is weighed
_STACKED = 0.1  # of the range of A: their noise, at most; more would hide which is better
_ROUNDING = 1e-5  # nats, of differences of cross-entropies
_SPLIT, _SEEN, _WEIGHED, _FOLDS = 3, 4, 5, 6  # first words of spawn keys


def posterior_profile(
    x: NDArray[np.floating],
    sizes: Sequence[int],
    *,
    snr: float | None = None,
    flip: float | None = None,
    train_minutes: float = 6.0,
    steps: int | None = None,
    hidden: int = 48,
    layers: int = 3,
    folds: int | None = None,
    device: str = "auto",
    network: str | Path | None = None,
    seed: int = 0,
    progress: Callable[[Look], None] | None = None,
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
    train_minutes, steps, hidden, layers, folds, device, network, seed, progress
        As in `fit_posterior`.

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
        train_minutes=train_minutes,
        steps=steps,
        hidden=hidden,
        layers=layers,
        folds=folds,
        device=device,
        network=network,
        seed=seed,
        progress=progress,
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
    hidden: int = 48,
    layers: int = 3,
    folds: int | None = None,
    device: str = "auto",
    network: str | Path | None = None,
    seed: int = 0,
    progress: Callable[[Look], None] | None = None,
) -> PosteriorFit:
    """Train one network for all widths and levels.

    Of the samples one in six, at most 10,000, is held out to be averaged over, and one in twelve, at most 4,000, to
    choose by: when to stop, and what to stack.

    Parameters
    ----------
    x, sizes
        As in `posterior_profile`.
    snrs, flips : iterables of float
        Levels that will be asked for: SNRs of Gaussian noise, or probabilities of flips.
    train_minutes : float
        About how long to train, in all.
    steps : int, optional
        Steps of training in place of the minutes; the result then does not depend on the speed of the machine.
    hidden, layers : int
        Units per shell and layers of the network.
    folds : int, optional
        Train so many networks, each without another part of the samples, so that every sample is held out once.
        Default: one network, and one part.
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
    check_layout(x, sizes)
    if len(x) < _LEAST:
        raise ValueError(f"a posterior network needs at least {_LEAST} samples, got {len(x)}")
    levels = [KnownNoise.of(snr, None) for snr in snrs] + [KnownNoise.of(None, flip) for flip in flips]
    binary = any(noise.flip > 0.0 for noise in levels)
    if binary and any(noise.sigma > 0.0 for noise in levels):
        raise ValueError("one network is for Gaussian noise or for flips: give either snrs or flips")
    if steps is None and not 0.0 < train_minutes < np.inf:
        raise ValueError(f"train_minutes must be above 0, got {train_minutes}")
    options = {
        "minutes": None if steps is not None else float(train_minutes),
        "steps": None if steps is None else whole_at_least(steps, "steps", 1),
        "hidden": whole_at_least(hidden, "hidden", 2),
        "layers": whole_at_least(layers, "layers", 1),
        "folds": 1 if folds is None else whole_at_least(folds, "folds", 2),
        "seed": seed,
        "rate": _RATE,
        "batch": _BATCH,
    }
    try:
        from estimators.posterior_network import NetworkFile, find_device, trained_answers
        from estimators.posterior_training import Settings
    except ImportError as error:
        raise ImportError('the method "posterior" needs torch: pip install "phase-scan[torch]"') from error
    where = find_device(device)
    asked = sorted((noise for noise in levels if not noise.nothing_left), key=_order)
    file = NetworkFile(network, _fingerprint(x, sizes, options), [_order(noise) for noise in asked])
    parts, notes = [], []
    splits = list(_splits(len(x), folds, seed))
    for number, (train, validation, test) in enumerate(splits):
        part = _Part.of(x, sizes, train, validation, test, binary)
        if asked and not part.constant:
            settings = Settings(
                minutes=float(train_minutes) / len(splits),
                steps=steps,
                rate=_RATE,
                batch=_BATCH,
                seed=seed + number,
            )
            part.answers, training = trained_answers(
                sizes,
                part.values,
                part.covariance,
                [part.start(noise, sizes) for noise in asked],
                part.units(x[train]),
                part.units(x[validation]),
                settings,
                hidden=hidden,
                layers=layers,
                device=where,
                file=file,
                number=number,
                progress=progress,
            )
            notes.append(f"{training.step} steps to a held-out loss of {training.best:.4f}")
        parts.append(part)
    return PosteriorFit(tuple(int(size) for size in sizes), tuple(parts), len(x), seed, tuple(notes))


@dataclass(eq=False)
class _Part:
    """A network, what it was trained on, and the samples that it has not seen."""

    train: IntArray
    validation: IntArray
    test: IntArray
    binary: bool
    mean: FloatArray
    unit: float
    covariance: FloatArray
    values: tuple[Values, ...]
    answers: Answers | None = None

    @classmethod
    def of(
        cls,
        x: NDArray[np.floating],
        sizes: Sequence[int],
        train: IntArray,
        validation: IntArray,
        test: IntArray,
        binary: bool,
    ) -> _Part:
        clean = bits(x.astype(np.float64))[train] if binary else x[train].astype(np.float64)
        mean = clean.mean(axis=0)
        with one_blas_thread():
            centred = clean - mean
            covariance = centred.T @ centred / len(clean)
        unit = 1.0 if binary else float(np.sqrt(np.diagonal(covariance).mean())) or 1.0
        part = cls(train, validation, test, binary, mean, unit, covariance / unit**2, ())
        part.values = tuple(Values.of(part.units(clean[:, [column]], [column])[:, 0]) for column in range(sizes[0]))
        return part

    @property
    def constant(self) -> bool:
        """Whether nothing is to be known of A."""
        return all(len(values.known) == 1 for values in self.values)

    def units(self, clean: NDArray[np.floating], columns: Sequence[int] | slice = np.s_[:]) -> FloatArray:
        """Bring clean samples to a mean of 0 and a variance near 1; bits stay bits."""
        if self.binary:
            return clean.astype(np.float64)
        return (clean.astype(np.float64) - self.mean[columns]) / self.unit

    def start(self, noise: KnownNoise, sizes: Sequence[int]) -> Start:
        """Where answers begin at one level."""
        with one_blas_thread():
            mean = self.mean if self.binary else np.zeros(len(self.mean))
            return gaussian_posteriors(self.covariance, mean, sizes, noise.scaled(self.unit), len(self.train))


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
    """

    sizes: tuple[int, ...]
    parts: tuple[_Part, ...]
    n: int
    seed: int
    notes: tuple[str, ...]

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
        cuts = len(self.sizes) - 2
        clean = bits(x.astype(np.float64)) if self.parts[0].binary else x
        if any(part.answers is not None for part in self.parts):
            from estimators.posterior_network import few_threads

            with few_threads():
                found = [self._entropies(part, clean, noise) for part in self.parts]
        else:
            found = [self._entropies(part, clean, noise) for part in self.parts]
        entropies = np.concatenate(found, axis=1)
        local = entropies[1:-1] - entropies[-1]  # the first has no buffer, which the first shell, if empty, has too
        held_out = entropies.shape[1]
        notes = [f"averaged over {held_out} of the {self.n} samples, held out", *self.notes]
        if noise.sigma == 0.0 and not noise.flip and not all(v.every for part in self.parts for v in part.values):
            notes.append("values of A are told apart as far as 256 bins do, which lowers the CMI without noise")
        return Profile(
            local.mean(axis=1), local, np.zeros(cuts), tuple(notes), least_variance=np.full(cuts, _ROUNDING**2)
        )

    def _entropies(self, part: _Part, clean: NDArray[np.floating], noise: KnownNoise) -> FloatArray:
        """Cross-entropies of A given every B_g of the samples that a part has not seen, (groups, samples)."""
        groups = len(self.sizes)
        total = np.zeros((groups, len(part.test)))
        if noise.nothing_left or part.answers is None:
            return total
        stack = _Stack(part, part.start(noise, self.sizes), self.seed)
        stack.weigh(part.units(clean[part.validation]))
        for begin in range(0, len(part.test), _CHUNK):
            rows = part.test[begin : begin + _CHUNK]
            total[:, begin : begin + len(rows)] = stack.entropies(part.units(clean[rows]), begin)
        return total


class _Stack:
    """Posteriors of one level: the network, the Gaussian and the next narrower stack, weighed at every width."""

    def __init__(self, part: _Part, start: Start, seed: int) -> None:
        from estimators.posterior_answers import Levels

        assert part.answers is not None  # noqa: S101
        self.answers, self.values, self.noise, self.seed = part.answers, part.values, start.noise, seed
        self.levels = Levels.of([start], part.answers.device)
        self.weights: list[FloatArray] = []

    def weigh(self, clean: FloatArray) -> None:
        """Choose the weights by samples that were held out for that."""
        chunks = [self._densities(clean[i : i + _CHUNK], i) for i in range(0, len(clean), _CHUNK)]
        for target in range(len(self.values)):
            density = np.concatenate([chunk[target] for chunk in chunks], axis=1)  # (predictions, samples, groups)
            weights = np.zeros((density.shape[2], 3))
            narrower = density[1, :, 0]
            for group in range(density.shape[2]):
                each = np.stack([*density[:, :, group], narrower], axis=1)
                weights[group] = stacking_weights(each)
                narrower = each @ weights[group]
            self.weights.append(weights)

    def entropies(self, clean: FloatArray, begin: int) -> FloatArray:
        """Cross-entropies (groups, samples)."""
        total = np.zeros((len(self.weights[0]), len(clean)))
        for target, predictions in enumerate(self._predictions(clean, _SEEN, begin)):
            weights = self.weights[target]
            stacked = predictions[1][:, 0]
            found = []
            for group in range(len(weights)):
                network, gaussian, narrower = weights[group]
                stacked = (
                    network * predictions[0][:, group] + gaussian * predictions[1][:, group] + narrower * stacked
                )
                found.append(self._entropy(stacked, clean[:, target], self.values[target]))
            total = total + np.stack(found)
        return total

    def _entropy(self, posterior: FloatArray, clean: FloatArray, values: Values) -> FloatArray:
        if self.noise.flip:
            if len(values.known) == 1:  # its noise alone, whatever is known of the rest
                return np.zeros(len(clean))
            return flipped_cross_entropy(posterior, values.place(clean), self.noise.flip)[0]
        if self.noise.sigma == 0.0:
            return -np.log(posterior[np.arange(len(clean)), values.place(clean)])
        variance = self.noise.sigma**2
        return cross_entropy(posterior, values.known, clean, 1.0 / (variance + values.bin_variance))[0]

    def _densities(self, clean: FloatArray, begin: int) -> list[FloatArray]:
        """Of what is seen of every column of A under both predictions, (predictions, samples, groups)."""
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(_WEIGHED, begin, *self.noise.key)))
        found = []
        for target, predictions in enumerate(self._predictions(clean, _WEIGHED, begin)):
            values = self.values[target]
            own = clean[:, target]
            sigma = min(self.noise.sigma, _STACKED * values.range)
            if sigma == 0.0:
                at = values.place(own)
                found.append(np.stack([p[np.arange(len(own)), :, at] for p in predictions]))
                continue
            width = np.sqrt(sigma**2 + values.bin_variance)
            y = own + sigma * rng.standard_normal((_DRAWS, len(own)))
            kernel = np.exp(-0.5 * ((y[..., None] - values.known) / width) ** 2)
            # samples of one image stand in a row
            found.append(
                np.stack([np.einsum("ngk,dnk->ndg", p, kernel).reshape(-1, p.shape[1]) for p in predictions])
            )
        return found

    def _predictions(self, clean: FloatArray, stream: int, begin: int) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Posteriors of every column of A, of the network and of the Gaussian, (samples, groups, values) each."""
        import torch

        noisy = torch.as_tensor(
            self.noise.applied(clean, self.seed, (stream, begin)), dtype=torch.float32, device=self.answers.device
        )
        for target in range(len(self.values)):
            network, gaussian = self.answers.posteriors(noisy[None], target, self.levels)
            yield network[0], gaussian[0]


def _splits(n: int, folds: int | None, seed: int) -> Iterator[tuple[IntArray, IntArray, IntArray]]:
    """Samples to train on, to choose by, and to be averaged over, drawn at random."""
    order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_SPLIT,))).permutation(n)
    validation = min(round(n * _VALIDATION[0]), _VALIDATION[1])
    first = order[: min(round(n * _TEST[0]), _TEST[1])]
    tests = [first] if folds is None else np.array_split(order, folds)
    for test in tests:
        rest = order[~np.isin(order, test)]
        yield np.sort(rest[validation:]), np.sort(rest[:validation]), np.sort(test)


def _order(noise: KnownNoise) -> float:
    """Rises with the noise."""
    return noise.flip if noise.flip else noise.sigma


def _fingerprint(x: NDArray[np.floating], sizes: Sequence[int], options: Mapping[str, object]) -> str:
    """Of what a network depends on beside the levels."""
    plain = {**options, "sizes": [int(size) for size in sizes]}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(x).data.cast("B"))
    return digest.hexdigest()
