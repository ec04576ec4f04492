"""Scores: what denoisers lose on held-out images, level by level and pixel by pixel, and how far they are apart.

At every level t all denoisers see the same noisy images, so that differences are paired:

    loss      l_d = |x0 - x0_hat_d|^2
    gap       < l_d - l_g >                 g the reference, as a rule the best global one
    distance  < |x0_hat_g - x0_hat_d|^2 >
    residual  gap - distance = 2 < (x0 - x0_hat_g) (x0_hat_g - x0_hat_d) >

The mean error of the true posterior mean is orthogonal to all that is known of xt: if the residual is not 0, g is
not that mean.  The gap is what enters the certificate; the distance, far less noisy, is right as far as g is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from cmi.checks import whole_number
from cmi.denoise.denoiser import Denoiser, evaluating, precise
from cmi.denoise.images import images_of
from cmi.denoise.receptive_field import receptive_field
from cmi.denoise.signature import image_signatures, not_among
from cmi.denoise.trainer import find_device
from cmi.netcdf import read_netcdf, write_netcdf
from cmi.noise import Noise, noise_schedule
from cmi.scan import levels_of

__all__ = [
    "LEAST_SCORED",
    "check_finite",
    "flops_of",
    "load_scores",
    "noise_of",
    "save_scores",
    "score_denoiser",
    "score_denoisers",
    "unseen_images",
]

_NOISE = 12  # first word of the spawn key
LEAST_SCORED = 10  # images
_FORMAT = 1
_PER_IMAGE, _PER_PIXEL = ("denoiser", "t", "sample"), ("denoiser", "t", "y", "x")
_DIMS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("loss", "distance"), _PER_IMAGE),
    **dict.fromkeys(("mse", "mse_stderr", "gap", "gap_stderr"), _PER_PIXEL),
    **dict.fromkeys(("radius", "field", "flops"), ("denoiser",)),
    "snr": ("t",),
    "image": ("sample", "number"),
}


def score_denoiser(
    denoiser: Denoiser, data: Any, levels: Iterable[float], *, against: Denoiser | None = None, **options: Any
) -> xr.Dataset:
    """Score one denoiser, alone or beside the reference that its loss is compared with.

    Parameters
    ----------
    denoiser : Denoiser
        In the scores it is "denoiser".
    data, levels
        As in `score_denoisers`.
    against : Denoiser, optional
        In the scores it is "reference". Default: none, and gaps are 0.
    **options
        Of `score_denoisers`: fields, batch, seed, device, progress.

    Examples
    --------
    >>> from cmi.denoise import GaussianDenoiser
    >>> from cmi.exact import GaussianField
    >>> field = GaussianField(L=5)
    >>> scores = score_denoiser(GaussianDenoiser(field.covariance, shape=(1, 5, 5)), field.sample(500, 0), [0.5])
    >>> scores.loss.sizes["sample"], scores.mse.sel(t=0.5).shape
    (500, (1, 5, 5))
    """
    if against is None:
        return score_denoisers({"denoiser": denoiser}, data, levels, reference="denoiser", **options)
    return score_denoisers(
        {"denoiser": denoiser, "reference": against}, data, levels, reference="reference", **options
    )


def score_denoisers(
    denoisers: Mapping[str, Denoiser],
    data: Any,
    levels: Iterable[float],
    *,
    reference: str | None = None,
    fields: bool = True,
    batch: int = 100,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Score denoisers of one schedule on the same noisy images.

    Parameters
    ----------
    denoisers : dict of name to Denoiser
    data : SampleSet, array or tensor
        Clean images that none of them was trained on, as in `images_of`.
    levels : iterable of float
        Noise levels t in (0, 1].
    reference : str, optional
        The denoiser that the others are compared with. Default: the global one, if there is one only.
    fields : bool
        Whether to measure the receptive fields of those that claim to be local.
    batch : int
        Images at once. On a CPU more are slower: their blocks of memory are asked for anew in every layer.
    seed : int
        Of the noise.
    device : str
        As in `train_denoiser`.
    progress : callable, optional
        Called as ``progress(done, total)`` after every level.

    Returns
    -------
    xarray.Dataset
        ``loss`` and ``distance`` (denoiser, t, sample), summed over an image; ``mse``, ``mse_stderr``, ``gap`` and
        ``gap_stderr`` (denoiser, t, y, x), per pixel, summed over channels; ``radius`` (claimed, -1: global),
        ``field`` (measured radius, -1: not measured) and ``flops`` (of one image) of every denoiser; ``snr``;
        ``image`` (sample, number), by which images are known again (`cmi.denoise.signature`). The attribute
        ``trained_on`` counts the images that a denoiser is known to have been trained on: 0 if they are held out,
        as they should be (`unseen_images`); ``not_known`` names those of which it is not known, as of models of
        others.

    Raises
    ------
    TypeError, ValueError
        If denoisers, images and levels do not go together, there are fewer than ten images, or a denoiser gives
        values that are not finite.

    Examples
    --------
    >>> from cmi.denoise import GaussianDenoiser
    >>> from cmi.exact import GaussianField
    >>> field = GaussianField(L=5)
    >>> whole, local = (GaussianDenoiser(field.covariance, shape=(1, 5, 5), radius=r) for r in (None, 1))
    >>> scores = score_denoisers({"whole": whole, "local": local}, field.sample(500, 0), [0.5])
    >>> bool(scores.loss.sel(denoiser="local").mean() > scores.loss.sel(denoiser="whole").mean())
    True
    """
    images = images_of(data)
    names = list(denoisers)
    first = _check_together(denoisers, images)
    reference = _reference(denoisers, reference)
    times = levels_of(levels, first.noise)
    if not (times > 0.0).all():
        raise ValueError("without noise nothing is lost: levels are above 0")
    batch, seed = whole_number(batch, "batch", least=1), whole_number(seed, "seed", least=0)
    where = find_device(device)
    n, (_, rows, columns) = len(images), first.shape
    moved = {name: denoiser.to(where) for name, denoiser in denoisers.items()}
    local = [fields and d.radius is not None for d in moved.values()]
    field = [receptive_field(d, device=where).radius if local[k] else -1 for k, d in enumerate(moved.values())]
    flops = [flops_of(denoiser, device=where) for denoiser in moved.values()]
    loss, distance = np.zeros((2, len(names), len(times), n))
    maps = np.zeros((4, len(names), len(times), rows, columns))  # sums: square, square^2, gap, gap^2
    order = [names.index(reference), *(k for k in range(len(names)) if names[k] != reference)]
    with evaluating(moved.values()):
        for level, t in enumerate(times):
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_NOISE, round(t * 1e12))))
            alpha, sigma = float(first.noise.alpha(t)), float(first.noise.sigma(t))
            for begin in range(0, n, batch):
                some = slice(begin, min(begin + batch, n))
                x0 = images[some].to(where)
                eps = torch.from_numpy(rng.standard_normal(tuple(x0.shape), dtype=np.float32)).to(where)
                xt = alpha * x0 + sigma * eps
                for number in order:
                    found = _denoised(moved[names[number]], xt, float(t), names[number])
                    square = (found - x0.to(found.dtype)).square().sum(dim=1)
                    if number == order[0]:
                        best, least = found, square
                    loss[number, level, some] = square.sum(dim=(1, 2)).cpu().numpy()
                    distance[number, level, some] = (found - best).square().sum(dim=(1, 2, 3)).cpu().numpy()
                    for kind, values in enumerate((square, square**2, square - least, (square - least) ** 2)):
                        maps[kind, number, level] += values.sum(dim=0).cpu().numpy()
            if progress is not None:
                progress(level + 1, len(times))
    maps /= n
    errors = [np.sqrt(np.maximum(maps[k + 1] - maps[k] ** 2, 0.0) / (n - 1)) for k in (0, 2)]
    radii = [-1 if d.radius is None else d.radius for d in denoisers.values()]
    return xr.Dataset(
        {
            "loss": (_PER_IMAGE, loss),
            "distance": (_PER_IMAGE, distance),
            "mse": (_PER_PIXEL, maps[0]),
            "mse_stderr": (_PER_PIXEL, errors[0]),
            "gap": (_PER_PIXEL, maps[2]),
            "gap_stderr": (_PER_PIXEL, errors[1]),
        },
        coords={
            "denoiser": names,
            "t": times,
            "snr": ("t", first.noise.snr(times)),
            "radius": ("denoiser", radii),
            "field": ("denoiser", field),
            "flops": ("denoiser", flops),
            "image": (("sample", "number"), image_signatures(images).numpy()),
        },
        attrs={
            "format": _FORMAT,
            "reference": reference,
            "noise": json.dumps(first.noise.to_dict()),
            "seed": str(seed),
            "trained_on": n - len(unseen_images(images, denoisers)),
            "not_known": json.dumps([name for name, each in denoisers.items() if not each.seen_images()]),
        },
    )


def unseen_images(data: Any, denoisers: Denoiser | Mapping[str, Denoiser] | Iterable[Denoiser]) -> Tensor:
    """Those of the images that no denoiser is known to have been trained on, (n, channels, rows, columns).

    Networks remember, in their files too, which images they were trained on or chosen by, by the values; an
    `EmpiricalDenoiser` those that it is made of; copies that were rounded otherwise, down to 8 bits, are known too.
    Of other denoisers nothing is known. Of images that were seen several times, as blank ones, or draws of few
    states, as many are left out as are likely to be among these.

    Examples
    --------
    >>> import torch
    >>> from cmi.denoise import EmpiricalDenoiser
    >>> images = torch.rand(20, 1, 4, 4)
    >>> len(unseen_images(images, [EmpiricalDenoiser(images[:15])]))
    5
    """
    images = images_of(data)
    every: Iterable[Denoiser] = (
        [denoisers]
        if isinstance(denoisers, Denoiser)
        else denoisers.values()
        if isinstance(denoisers, Mapping)
        else denoisers
    )
    own, kept = image_signatures(images).numpy(), np.ones(len(images), dtype=bool)
    for denoiser in every:
        for seen in denoiser.seen_images():
            kept &= not_among(own, seen.numpy())
    return images[torch.from_numpy(kept)]


def save_scores(scores: xr.Dataset, path: str | PathLike[str], *, overwrite: bool = False) -> None:
    """Write scores to a netCDF file, whole or not at all.

    Raises
    ------
    FileExistsError, OSError
        If the file exists, or cannot be written.
    """
    write_netcdf(scores, path, overwrite=overwrite)


def load_scores(path: str | PathLike[str]) -> xr.Dataset:
    """Read scores.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it holds something else.
    """

    def checked(found: xr.Dataset) -> xr.Dataset:
        if "image" in found and found.image.dims == ("sample", "hash"):  # of an earlier version
            found = found.drop_vars("image")
        for name in (*_DIMS, "denoiser", "t"):
            if name not in found and name != "image":  # which earlier files do not have
                raise ValueError(f"it has no {name}")
        for name, dims in _DIMS.items():
            if name in found and found[name].dims != dims:
                raise ValueError(f"its {name} is not by {', '.join(dims)}")
        names = found.denoiser.values.tolist()
        if len(set(names)) < len(names):
            raise ValueError("two of its denoisers have one name")
        if found.attrs["reference"] not in names:
            raise ValueError("its reference was not scored")
        if found.sizes["sample"] < 2:
            raise ValueError("it is of fewer than two images")
        levels_of(found.t.values, noise_of(found))
        check_finite(found)
        return found

    return read_netcdf(path, checked, newest=_FORMAT, what="score")


def check_finite(scores: xr.Dataset) -> None:
    """Raise a ValueError for losses or distances that are not finite, as two sets of scores put together have.

    In a sum over steps they would count for nothing.
    """
    for name in ("loss", "distance"):
        bad = np.argwhere(~np.isfinite(scores[name].transpose(*_PER_IMAGE).values).all(axis=2))
        if len(bad):
            which, t = scores.denoiser.values[bad[0, 0]], float(scores.t.values[bad[0, 1]])
            raise ValueError(f"the {name} of {str(which)!r} at t = {t:g} is not finite: score it there again")


def noise_of(scores: xr.Dataset) -> Noise:
    """The schedule of the noise that scores are of."""
    about = json.loads(scores.attrs["noise"])
    if not isinstance(about, dict) or not isinstance(about.get("name"), str):
        raise ValueError("its noise is no schedule")
    schedule = noise_schedule(about.pop("name"), **about)
    if not schedule.gaussian:
        raise ValueError(f"its noise, {schedule.name}, is not Gaussian")
    return schedule


def flops_of(denoiser: Denoiser, *, device: torch.device | str = "cpu") -> int:
    """Operations for one image, as torch counts them: products of matrices, convolutions and attention.

    Those of attention as two products of matrices, on any device: that of the denoiser, or the one that is named if
    it has no parameters, as one that calls a model inside a function.

    Examples
    --------
    >>> from cmi.denoise import LocalDenoiser
    >>> small, large = (flops_of(LocalDenoiser((1, 8, 8), r, width=8)) for r in (1, 3))
    >>> 0 < small < large
    True
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    place = next((p.device for p in (*denoiser.parameters(), *denoiser.buffers())), torch.device(device))
    counter = FlopCounterMode(display=False)
    # what a fused kernel of attention takes is counted on some devices only
    with counter, evaluating([denoiser]), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        denoiser(torch.zeros(1, *denoiser.shape, device=place), 0.5)
    return int(counter.get_total_flops())


@torch.no_grad()
def _denoised(denoiser: Denoiser, xt: Tensor, t: float, name: str) -> Tensor:
    found: Tensor = denoiser(xt, t).to(precise(xt.device))
    if not bool(torch.isfinite(found).all()):
        raise ValueError(f"the denoiser {name!r} gives values that are not finite at t = {t:g}")
    return found


def _check_together(denoisers: Mapping[str, Denoiser], images: Tensor) -> Denoiser:
    if not denoisers:
        raise ValueError("there is no denoiser to score")
    first, *others = denoisers.values()
    for name, each in denoisers.items():
        if not isinstance(each, Denoiser):
            raise TypeError(f"{name!r} is no Denoiser but {type(each).__name__}: see from_epsilon and its like")
        if each.shape != tuple(images.shape[1:]):
            raise ValueError(f"the denoiser {name!r} takes images of {each.shape}, got {tuple(images.shape[1:])}")
    if any(each.noise != first.noise for each in others):
        raise ValueError("denoisers are scored on one schedule: bring them there with OnSchedule")
    if len(images) < LEAST_SCORED:
        raise ValueError(f"scores need at least {LEAST_SCORED} images, got {len(images)}")
    return first


def _reference(denoisers: Mapping[str, Denoiser], reference: str | None) -> str:
    if reference is not None:
        if reference not in denoisers:
            raise ValueError(f"the reference {reference!r} is none of {', '.join(denoisers)}")
        return reference
    wide = [name for name, each in denoisers.items() if each.radius is None]
    if len(wide) != 1:
        raise ValueError(f"name the reference: {len(wide)} of the denoisers are global")
    return wide[0]
