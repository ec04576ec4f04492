"""How a network is trained for a part of the samples: with other places to learn from, or the parities of bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from estimators.arguments import whole_at_least
from estimators.known_noise import bits
from estimators.parity_checks import BitCode
from estimators.posterior_options import LEAST_SAMPLES, Asked, need_torch
from estimators.posterior_part import Part
from estimators.posterior_places import trained_at_places, with_empty
from estimators.profile import IntArray, check_layout
from estimators.uniform_code import UniformCode

if TYPE_CHECKING:
    import torch

    from estimators.posterior_network import NetworkFile
    from estimators.trainer import Look

__all__ = ["Fitting", "checked_windows"]


@dataclass(frozen=True, eq=False)
class Fitting:
    """What all networks of a fit share.

    Parameters
    ----------
    sizes : tuple of int
        (|A|, |S_1|, ..., |S_m|).
    asked : Asked
    near : (places, d) array of int or None
        Columns of other places to learn from.
    device : torch.device
    file : NetworkFile
    progress : callable or None
    """

    sizes: tuple[int, ...]
    asked: Asked
    near: IntArray | None
    device: torch.device
    file: NetworkFile
    progress: Callable[[Look], None] | None

    @classmethod
    def of(
        cls,
        x: NDArray[np.floating],
        sizes: Sequence[int],
        asked: Asked,
        near: IntArray | None,
        count: int,
        *,
        device: str,
        network: str | Path | None,
        progress: Callable[[Look], None] | None,
    ) -> Self:
        """Find the device, and the file of so many networks.

        Raises
        ------
        ImportError
            Without torch.
        TypeError, ValueError
            For another device, or the file of another network.
        """
        need_torch(asked.method)
        from estimators.posterior_network import NetworkFile, find_device

        where = find_device(device)
        file = NetworkFile(network, asked.fingerprint(x, sizes), asked.places, count)
        return cls(tuple(int(size) for size in sizes), asked, near, where, file, progress)

    def part(self, number: int, x: NDArray[np.floating], rows: Sequence[IntArray], share: int = 1) -> Part:
        """Train one of the `share` networks that share the minutes; rows: to train on, to choose by, held out."""
        from estimators.posterior_network import make_answers, trained_answers

        train, validation, test = rows
        sizes, asked, near = self.sizes, self.asked, self.near
        part = Part.of(x, sizes, train, validation, test, asked.binary)
        part.number = number
        if not asked.noises or part.constant:
            return part
        clean = part.units(x[train])
        code = None if asked.means else BitCode.of(clean, sizes)
        if code is not None:  # which other samples must obey as well
            code = BitCode.of(np.concatenate([clean, part.units(x[validation])]), sizes)
        settings = asked.settings(number, share)
        if near is not None and code is None:
            place = np.concatenate([[np.arange(sum(sizes))], near])
            extended = with_empty(bits(x.astype(np.float64)) if asked.binary else x)
            whole = Part.of(extended, (1, extended.shape[1] - 1), train, validation, test, asked.binary)
            placed, training = trained_at_places(
                whole,
                extended,
                place,
                sizes,
                asked,
                settings,
                device=self.device,
                file=self.file,
                number=number,
                progress=self.progress,
                alone=True,
            )
            # in the units that the network was trained in, which the empty column is part of
            part = placed[0]
            part.number, part.training = number, training
            return part
        part.code = None if code is None else UniformCode(code, sizes)
        make = partial(
            make_answers,
            sizes,
            part.values,
            part.scaled_covariance(),
            hidden=asked.hidden,
            layers=asked.layers,
            bits=code,
            means=asked.means,
        )
        part.answers, part.training = trained_answers(
            make,
            [part.start(noise, sizes) for noise in asked.noises],
            clean,
            part.units(x[validation]),
            settings,
            device=self.device,
            file=self.file,
            number=number,
            progress=self.progress,
        )
        return part


def checked_windows(
    x: NDArray[np.floating],
    sizes: Sequence[int],
    neighbours: IntArray | None,
    queries: int | None,
    folds: int | None,
) -> IntArray | None:
    """Check the layout of samples and which are held out, and return the windows of places to learn from.

    There are none where A has several columns.

    Raises
    ------
    ValueError
        For fewer than 200 samples, a bad layout, windows of another size or of other columns, queries with folds or
        of more than half of the samples.
    """
    check_layout(x, sizes)
    if len(x) < LEAST_SAMPLES:
        raise ValueError(f"a posterior network needs at least {LEAST_SAMPLES} samples, got {len(x)}")
    if queries is not None:
        if folds is not None:
            raise ValueError("queries or folds, not both: folds average over all samples")
        if whole_at_least(queries, "queries", 2) > len(x) // 2:
            raise ValueError(f"queries must be at most half of the {len(x)} samples, got {queries}: others train")
    if neighbours is None or sizes[0] != 1 or len(neighbours) == 0:
        return None
    near = np.asarray(neighbours)
    if near.ndim != 2 or near.shape[1] != sum(sizes) or near.dtype.kind not in "iu":
        raise ValueError(f"neighbours are {sum(sizes)} columns of every place, that of A first, got {near.shape}")
    if near.max() >= sum(sizes) or near.min() < -1 or near[:, 0].min() < 0:
        raise ValueError(f"neighbours hold columns from 0 to {sum(sizes) - 1}, of the shells also -1")
    return near.astype(np.int64)
