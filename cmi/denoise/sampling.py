"""Sampling: from noise to images with one denoiser or several, along the SDE or the ODE.

Both run over the levels of a schedule, with D what the denoiser says of x0 at the beginning of a step.

SDE.  x_s is drawn from what the noise would give if x0 were D: of order one, exactly what `certify` bounds,

    x_s = sigma_s^2 / alpha_s Y_s,   Y_s = (alpha_t / sigma_t^2) x_t + (snr_s - snr_t) D + (snr_s - snr_t)^1/2 z.

But x0 varies about D, and Y_s lacks its share of that, (snr_s - snr_t)^2 Cov(x0 | x_t).  Order two puts
D + (h / h') (D - D') / 2 in place of D, with h the length of the step in ln SNR, h' that of the one before, and D'
what was said there.  D - D' is, to first order, Cov(x0 | x_t) times the noise of the step before: drift and noise
then covary by what was lacking, at no further call.  Where a hybrid goes over to another denoiser, D - D' of both
would be wrong by all that they differ by: one is asked once more, the new one for its D', or the old one for its D,
if it sees less far.  With ever more steps both draw from the same distribution.

ODE.  In z = x / sigma over k = alpha / sigma, dz / dk = D(z, k): a step of Euler (order one) is DDIM, of Heun
(order two) takes two calls,

    z_s = z_t + (k_s - k_t) (D_t + D_s) / 2,

both of the denoiser whose step it is.

No value is clipped on the way; the last step, to sigma = 0, is D.  Of a schedule that ends with some noise at
t = 0, as "ve" does, one call more takes that off.  References: Ho et al. (2020); Song et al.
(2021); Karras et al. (2022); order two of the SDE is SDE-DPM-Solver++(2M) of Lu et al. (arXiv:2211.01095).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cmi.checks import whole_number
from cmi.denoise.denoiser import Denoiser, evaluating
from cmi.denoise.plan import Plan
from cmi.denoise.schedule import Schedule, time_grid
from cmi.denoise.scores import flops_of
from cmi.denoise.trainer import find_device

__all__ = ["HybridDenoiser", "sample", "sampling_flops"]

_SAMPLES = 13  # first word of the spawn keys
_LITTLE = 1e-3  # SNR from which on a schedule that begins below t = 1 does not begin as noise
_LONGER = 4.0  # most that h / h' counts: beyond, what is extrapolated is mostly the noise of a short step
FloatArray = NDArray[np.float64]
Kind = Literal["sde", "ode"]
Order = Literal[1, 2]


class HybridDenoiser(Denoiser):
    """Several denoisers as one: at every noise level the one that a schedule names.

    Parameters
    ----------
    schedule : Schedule or Plan
        Level t is that of the step from times[k] to times[k + 1] with times[k] >= t > times[k + 1].
    denoisers : dict of name to Denoiser

    Raises
    ------
    ValueError
        If a name has no denoiser, or they do not go together.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from cmi.denoise import GaussianDenoiser, Schedule
    >>> one, two = (GaussianDenoiser(v * np.eye(4), shape=(1, 2, 2)) for v in (1.0, 3.0))
    >>> both = HybridDenoiser(Schedule([1.0, 0.5, 0.0], ["one", "two"]), {"one": one, "two": two})
    >>> x = torch.ones(1, 1, 2, 2)
    >>> bool((both(x, 0.7) == one(x, 0.7)).all()), bool((both(x, 0.5) == two(x, 0.5)).all())
    (True, True)
    """

    def __init__(self, schedule: Schedule | Plan, denoisers: Mapping[str, Denoiser]) -> None:
        schedule = schedule.schedule if isinstance(schedule, Plan) else schedule
        missing = [name for name in dict.fromkeys(schedule.denoisers) if name not in denoisers]
        if missing:
            raise ValueError(f"the schedule names {missing[0]!r}, denoisers are {', '.join(denoisers)}")
        used = [denoisers[name] for name in dict.fromkeys(schedule.denoisers)]
        first = used[0]
        if any(each.shape != first.shape or each.noise != first.noise for each in used):
            raise ValueError(
                "the denoisers of a schedule are for images of one shape and for one schedule of noise"
            )
        radii = [each.radius for each in used]
        super().__init__(
            first.shape, first.noise, None if None in radii else max(r for r in radii if r is not None)
        )
        self.schedule = schedule
        self.numbers = {name: number for number, name in enumerate(dict.fromkeys(schedule.denoisers))}
        self.denoisers = nn.ModuleList(used)

    def denoised(self, xt: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:  # noqa: ARG002
        """As the one of that level says."""
        steps = [self._step(level) for level in t.tolist()]
        which = torch.tensor([self.numbers[self.schedule.denoisers[step]] for step in steps])
        found = torch.empty_like(xt)
        for number in sorted(set(which.tolist())):
            rows = (which == number).to(xt.device)
            found[rows] = self.denoisers[number](xt[rows], t[which == number])
        return found

    def at(self, t: float) -> Denoiser:
        """The denoiser of that level."""
        found = self.denoisers[self.numbers[self.schedule.denoisers[self._step(t)]]]
        return found.at(t) if isinstance(found, HybridDenoiser) else cast(Denoiser, found)

    def _step(self, t: float) -> int:
        falling = np.asarray(self.schedule.times)
        if t > falling[0] + 1e-9:
            raise ValueError(f"the schedule begins at t = {falling[0]:g}, not at {t:g}")
        # levels that are equal but for rounding begin the step
        return min(int(np.searchsorted(-falling, 1e-9 - t, side="right")) - 1, len(falling) - 2)


def sample(
    denoiser: Denoiser,
    n: int,
    *,
    steps: int = 50,
    times: np.ndarray | None = None,
    kind: Kind = "sde",
    order: Order = 2,
    start: Tensor | NDArray[np.floating] | None = None,
    batch: int = 100,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Draw images.

    Parameters
    ----------
    denoiser : Denoiser
        Of one kind or a `HybridDenoiser`, whose schedule then gives the times.
    n : int
        Images.
    steps : int
        Even steps in t from 1 to 0, where neither `times` nor a schedule says otherwise.
    times : (steps + 1,) array, optional
        Falling noise levels. Without a start they begin at t = 1, or where the SNR is at most 1e-3.
    kind : {"sde", "ode"}
        Stochastic or deterministic.
    order : {2, 1}
        Power of the length of steps with which errors of the distribution fall. Default 2: of the SDE at no further
        cost but for one call of the narrower denoiser where a hybrid goes over to another (see the module), of the
        ODE by two calls of the denoiser a step (Heun). 1: the SDE that `certify` bounds; DDIM.
    start : (n, channels, rows, columns) tensor or array, optional
        Noisy images at the first level. Default: sigma times standard normal numbers.
    batch : int
        Images at once, which do not depend on it but for rounding. On a CPU more are slower: their blocks of memory
        are asked for anew in every layer.
    seed : int
        Every image has random numbers of its own: the first n of more are the same.
    device : str
        As in `train_denoiser`.
    progress : callable, optional
        Called as ``progress(done, total)`` with calls of the denoiser.

    Returns
    -------
    (n, channels, rows, columns) tensor
        On the CPU; not clipped.

    Raises
    ------
    TypeError, ValueError
        For times that do not fall within [0, 1], or begin below t = 1 without a start, a start of another shape,
        and values that are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from cmi.denoise import GaussianDenoiser
    >>> white = GaussianDenoiser(4.0 * np.eye(1), shape=(1, 1, 1))
    >>> drawn = sample(white, 4000, steps=20, kind="ode")
    >>> bool(abs(drawn.std() - 2.0) < 0.1)
    True
    """
    n, batch = whole_number(n, "n", least=1), whole_number(batch, "batch", least=1)
    seed = whole_number(seed, "seed", least=0)
    if kind not in ("sde", "ode"):
        raise ValueError(f"kind is sde or ode, got {kind!r}")
    order = 1 if whole_number(order, "order", least=1, most=2) == 1 else 2
    falling = _falling(denoiser, steps, times)
    given = None if start is None else torch.as_tensor(start).float()
    if given is not None and tuple(given.shape) != (n, *denoiser.shape):
        raise ValueError(f"the start must have shape {(n, *denoiser.shape)}, got {tuple(given.shape)}")
    if given is not None and not bool(torch.isfinite(given).all()):
        raise ValueError("the start holds values that are not finite")
    where = find_device(device)
    if start is None and falling[0] < 1.0 and float(denoiser.noise.snr(falling[0])) > _LITTLE:
        raise ValueError(
            f"sampling begins at t = {falling[0]:g}, where noisy images are not yet noise alone: give them as "
            "start, or begin at t = 1"
        )
    moved = denoiser.to(where)
    found = torch.empty(n, *denoiser.shape)
    way = _way(moved, falling, kind, order)
    calls = sum(1 + (step.more is not None) for step in way)
    chunks = [range(begin, min(begin + batch, n)) for begin in range(0, n, batch)]
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, calls * len(chunks))

    with evaluating([moved]):
        for rows in chunks:
            drawn = [np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_SAMPLES, row))) for row in rows]
            first = None if given is None else given[rows.start : rows.stop].to(where)
            x = _run(way, drawn, moved, kind, first, where, count)
            if not bool(torch.isfinite(x).all()):
                raise ValueError(
                    "sampling has led to values that are not finite: take more steps, or another denoiser"
                )
            found[rows.start : rows.stop] = x.float().cpu()
    return found


def sampling_flops(
    denoiser: Denoiser,
    *,
    steps: int = 50,
    times: np.ndarray | None = None,
    kind: Kind = "sde",
    order: Order = 2,
) -> int:
    """Operations for one image that is sampled: of every call of a denoiser, those of order two included.

    Parameters
    ----------
    denoiser, steps, times, kind, order
        As of `sample`.

    Returns
    -------
    int
        As `flops_of` counts them.

    Examples
    --------
    >>> from cmi.denoise import GlobalDenoiser, LocalDenoiser, Schedule, flops_of
    >>> nets = {"local": LocalDenoiser((1, 8, 8), 1), "global": GlobalDenoiser((1, 8, 8))}
    >>> local, whole = (flops_of(net) for net in nets.values())
    >>> both = HybridDenoiser(Schedule([1.0, 0.7, 0.4, 0.0], ["local", "local", "global"]), nets)
    >>> sampling_flops(both, order=1) == 2 * local + whole
    True
    """
    way = _way(denoiser, _falling(denoiser, steps, times), kind, order)
    calls = Counter(part for step in way for part in (step.own, step.more) if part is not None)
    return sum(number * flops_of(part) for part, number in calls.items())


def _falling(denoiser: Denoiser, steps: int, times: np.ndarray | None) -> FloatArray:
    """Levels of noise, checked."""
    if times is None:
        times = np.asarray(denoiser.schedule.times) if isinstance(denoiser, HybridDenoiser) else time_grid(steps)
    return np.asarray(Schedule.of_one("", [float(t) for t in times]).times)


@dataclass(frozen=True, eq=False)
class _Step:
    """A step from level t to the next: whose it is, and whom order two asks once more, if anyone."""

    t: float
    after: float | None  # None: to what the denoiser says
    own: Denoiser
    more: Denoiser | None
    weight: float  # of D - D', of the SDE of order two


def _way(denoiser: Denoiser, times: FloatArray, kind: Kind, order: Order) -> list[_Step]:
    levels = times.tolist()
    parts = [denoiser.at(t) if isinstance(denoiser, HybridDenoiser) else denoiser for t in levels[:-1]]
    with np.errstate(divide="ignore"):
        logs = np.log(denoiser.noise.snr(times))
    found = []
    for k, own in enumerate(parts):
        more, weight = None, 0.0
        last = not np.isfinite(logs[k + 1])  # to sigma = 0
        if kind == "ode" and order == 2 and not last:
            more = own
        if kind == "sde" and order == 2 and not last and k > 0:
            weight = 0.5 * min(float((logs[k + 1] - logs[k]) / (logs[k] - logs[k - 1])), _LONGER)
            old = parts[k - 1]
            if weight > 0.0 and old is not own:  # after a step from SNR 0 it is 0
                nearer = old.radius is not None and (own.radius is None or old.radius < own.radius)
                more = old if nearer else own
        found.append(_Step(levels[k], levels[k + 1], own, more, weight))
    if levels[-1] == 0.0 and float(denoiser.noise.sigma(0.0)) > 0.0:
        found.append(_Step(0.0, None, parts[-1], None, 0.0))
    return found


@torch.no_grad()
def _run(
    way: list[_Step],
    rngs: list[np.random.Generator],
    denoiser: Denoiser,
    kind: Kind,
    start: Tensor | None,
    device: torch.device,
    count: Callable[[], None],
) -> Tensor:
    noise = denoiser.noise

    def draw() -> Tensor:
        each = [rng.standard_normal(denoiser.shape, dtype=np.float32) for rng in rngs]
        return torch.from_numpy(np.stack(each)).to(device)

    def clean(part: Denoiser, x: Tensor, t: float) -> Tensor:
        answer: Tensor = part(x, t)
        count()
        return answer

    x = draw() * float(noise.sigma(way[0].t)) if start is None else start
    before: tuple[Tensor, Tensor, float] | None = None
    for step in way:
        if step.after is None:
            x = clean(step.own, x, step.t)
            break
        alpha, sigma, snr = (float(part(step.t)) for part in (noise.alpha, noise.sigma, noise.snr))
        next_alpha, next_sigma, next_snr = (
            float(part(step.after)) for part in (noise.alpha, noise.sigma, noise.snr)
        )
        d = clean(step.own, x, step.t)
        if next_sigma == 0.0:
            x = next_alpha * d
            break
        if sigma == 0.0:
            raise ValueError("sampling begins at a noise level above t = 0")
        if kind == "sde":
            gain, drift = next_snr - snr, d
            if step.weight > 0.0 and before is not None:
                then, said, t = before
                if step.more is None:
                    change = d - said
                elif step.more is step.own:
                    change = d - clean(step.own, then, t)
                else:
                    change = clean(step.more, x, step.t) - said
                drift = d + step.weight * change
            before = x, d, step.t
            y = (alpha / sigma**2) * x + gain * drift + gain**0.5 * draw()
            x = (next_sigma**2 / next_alpha) * y
            continue
        longer = next_alpha / next_sigma - alpha / sigma
        scaled = x / sigma + longer * d
        if step.more is not None:
            there = clean(step.more, scaled * next_sigma, step.after)
            scaled = x / sigma + 0.5 * longer * (d + there)
        x = scaled * next_sigma
    return x
