"""Whether two trainings on the same images agree, and where they do not, whether the networks or the images differ.

    python benchmarks/two_seeds.py --data FOLDER [--out FOLDER FOLDER] [--seeds 0 1] [--minutes 6]

FOLDER holds train-images-idx3-ubyte(.gz); the protocol is that of `paper_map.py`, whose scans by `posterior` and
networks in --out are taken where they are there. Another seed holds out other images, and begins at other weights.
Printed are how many cells up to t = 0.8 agree within two and three errors, and by how much the held-out
cross-entropies of the two networks differ on those images that neither of them has seen: paired, so that what is
left is what one has learnt and the other has not. Where that is small, the images that were drawn are what differs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from paper_map import LEVELS, WIDTHS, images, kept_scan

from cmi import PhaseScan, SampleSet, noise_schedule
from cmi.regions import Partition, neighbour_windows
from cmi.scan import data_of
from estimators.known_noise import KnownNoise
from estimators.posterior import fit_posterior
from estimators.posterior_stack import held_out_entropies

FloatArray = NDArray[np.float64]

LAST = 0.8  # of higher levels nothing is left


def apart(scans: Sequence[PhaseScan]) -> FloatArray:
    """How many of their common errors the two scans differ by, (levels, widths)."""
    first, second = (scan.dataset.sel(t=slice(None, LAST + 1e-9)) for scan in scans)
    error = np.hypot(first.stderr.values, second.stderr.values)
    return np.asarray((first.cmi.values - second.cmi.values) / error)


def counted(z: FloatArray) -> str:
    """How many cells agree.

    Examples
    --------
    >>> counted(np.array([0.5, -2.5, 3.5]))
    'of 3 cells 1 agree within two errors, 2 within three; 3.5 at most'
    """
    off = np.abs(z)
    near = [int((off <= most).sum()) for most in (2, 3)]
    return f"of {z.size} cells {near[0]} agree within two errors, {near[1]} within three; {off.max():.1f} at most"


def unseen_by_both(
    data: SampleSet,
    out: Sequence[Path],
    seeds: Sequence[int],
    *,
    levels: Sequence[float],
    widths: Sequence[int],
    minutes: float,
) -> list[FloatArray]:
    """Cross-entropies of the first network less those of the second at every level, (groups, images)."""
    samples = data_of(data)[0]
    partition = Partition.centered(samples.shape, widths=widths)
    x = np.ascontiguousarray(samples.values[:, partition.columns])
    noise = noise_schedule("interpolation")
    parts = [
        fit_posterior(
            x,
            partition.sizes,
            snrs=[float(noise.snr(t)) for t in levels],
            train_minutes=minutes,
            neighbours=neighbour_windows(samples.shape, partition),
            network=folder / "posterior.pt",
            seed=seed,
        ).parts[0]
        for folder, seed in zip(out, seeds, strict=True)
    ]
    common = np.intersect1d(parts[0].test, parts[1].test)
    found = []
    for t in levels:
        level = KnownNoise.of(float(noise.snr(t)), None)
        losses = [  # of densities per grey level: a part has a unit of its own, by its own samples
            held_out_entropies(replace(part, test=common), x, level, partition.sizes, seed).losses
            + np.log(part.unit)
            for part, seed in zip(parts, seeds, strict=True)
        ]
        found.append(losses[0] - losses[1])
    return found


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the IDX files")
    parser.add_argument("--out", type=Path, nargs=2, default=[Path("first"), Path("second")])
    parser.add_argument("--seeds", type=int, nargs=2, default=[0, 1])
    parser.add_argument("--minutes", type=float, default=6.0, help="of training each network")
    arguments = parser.parse_args()
    data, scans, minutes = images(arguments.data), [], arguments.minutes
    for folder, seed in zip(arguments.out, arguments.seeds, strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        scans.append(
            kept_scan("posterior", data, folder, levels=LEVELS, widths=WIDTHS, seed=seed, train_minutes=minutes)
        )
    z = apart(scans)
    print("CMI:", counted(z[:, 1:]))
    print("CMI and I(A:BC):", counted(z))
    levels = [t for t in LEVELS if t <= LAST]
    off = unseen_by_both(data, arguments.out, arguments.seeds, levels=levels, widths=WIDTHS, minutes=minutes)
    print(
        f"\n10^-3 nats; last columns: first network less second, on {off[0].shape[1]} images that neither has seen"
    )
    print("   t    I(A:BC), first and second   CMI at r = 1                entropy given all   given B_1")
    for i, t in enumerate(levels):
        cells = [
            f"{1e3 * scan.dataset.cmi.values[i, r]:8.1f}({1e3 * scan.dataset.stderr.values[i, r]:.1f})"
            for r in (0, 1)
            for scan in scans
        ]
        mean, error = 1e3 * off[i].mean(axis=1), 1e3 * off[i].std(axis=1) / np.sqrt(off[i].shape[1])
        cells += [f"{mean[g]:10.2f}({error[g]:.2f})" for g in (-1, 2)]
        print(f"{t:5.1f} " + " ".join(cells))


if __name__ == "__main__":
    main()
