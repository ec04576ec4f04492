"""Cells whose CMI is known: zeros, the order of widths, and how far off chance alone takes the farthest.

Every check is a family of cells z = value / error, two-sided for zeros, one-sided for the order.  It fails where
its largest z is beyond the threshold that the largest of all its cells, which share samples, passes by chance at
a stated rate (`largest_z`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from cmi.largest_z import largest_by_chance, z_scores
from cmi.result import PhaseScan
from cmi.scan_check import CHECKS, FALSE_POSITIVES, Check, CheckRow, ScanCheck

FloatArray = NDArray[np.float64]

__all__ = ["KnownCells"]


@dataclass(frozen=True, eq=False)
class _Family:
    """The cells of one check, and what chance might have made of them: ``draw(count, seed)`` -> (count, cells)."""

    places: Sequence[tuple[float, int, int | None]]  # level, width, the narrower one
    value: FloatArray
    stderr: FloatArray
    draw: Callable[[int, int], FloatArray]

    @property
    def uncertain(self) -> int:
        """How many cells have an error: the others are 0, or wrong."""
        return int(np.count_nonzero(self.stderr > 0.0))


@dataclass(eq=False)
class KnownCells:
    """Families of cells as they come in, and what is missing.

    Parameters
    ----------
    of : PhaseScan
        The scan that is checked.
    seed : int
        Of the draws that thresholds are taken from.
    families : dict of str to family
        The cells of every check.
    skipped, seen, unknown : dict
        As in `ScanCheck`.
    """

    of: PhaseScan
    seed: int
    families: dict[Check, _Family] = field(default_factory=dict)
    skipped: dict[Check, str] = field(default_factory=dict)
    seen: dict[Check, float] = field(default_factory=dict)
    unknown: dict[Check, int] = field(default_factory=dict)

    def zeros(self, check: Check, scan: PhaseScan, levels: Sequence[float], width: int | None) -> None:
        """Take in the finished cells of some levels of a scan, from a width on, that should be 0."""
        data = scan.dataset
        wanted = np.isin(data.t.values, levels)[:, None] & (data.r.values >= (0 if width is None else width))
        known = wanted & ~np.isnan(data.cmi.values)
        i, j = np.nonzero(known)
        cmi = data.cmi.values

        def draw(count: int, seed: int) -> FloatArray:
            return np.asarray(np.nan_to_num((scan.draws(count, seed) - np.nan_to_num(cmi))[:, i, j]))

        places = [(float(t), int(r), None) for t, r in zip(data.t.values[i], data.r.values[j], strict=True)]
        self._take(check, _Family(places, cmi[i, j], data.stderr.values[i, j], draw), int(wanted.sum()))

    def order(self) -> None:
        """Take in all pairs of widths of the scan."""
        data, cmi = self.of.dataset, self.of.dataset.cmi.values
        pairs = np.array(list(combinations(range(data.sizes["r"]), 2)), dtype=np.int64).reshape(-1, 2)
        if len(pairs) == 0:
            self.skipped["wider buffers"] = "the scan has one width only, and none to compare it with"
            return
        narrow, wide = pairs.T
        signal = (data.finished.values == 1) & (data.alpha.values > 0.0)  # without, more is known
        if not signal.any():
            self.skipped["wider buffers"] = "no level but pure noise is finished"
            return
        with np.errstate(invalid="ignore"):  # of CMIs that are infinite
            rise = cmi[:, wide] - cmi[:, narrow]
        i, p = np.nonzero(~np.isnan(rise) & signal[:, None])
        j, k = narrow[p], wide[p]
        covariance, bias = data.covariance.values, data.bias.values
        paired = covariance[i, j, j] + covariance[i, k, k] - 2.0 * covariance[i, j, k]
        removed = np.abs(np.nan_to_num(bias[i, k] - bias[i, j]))
        columns = int(data.n_A) * (data.n_B.values[k] - data.n_B.values[j])
        least = np.maximum(removed / self.of.config["data"]["n_samples"], 2.0 * removed**2 / np.maximum(columns, 1))
        stderr = np.sqrt(np.maximum(np.nan_to_num(paired), least))

        def draw(count: int, seed: int) -> FloatArray:
            drawn = np.nan_to_num(self.of.draws(count, seed) - np.nan_to_num(cmi))
            return np.asarray(drawn[:, i, k] - drawn[:, i, j])

        t, r = data.t.values[i], data.r.values
        places = [(float(a), int(b), int(c)) for a, b, c in zip(t, r[k], r[j], strict=True)]
        self._take("wider buffers", _Family(places, rise[i, p], stderr, draw), int(signal.sum()) * len(pairs))

    def _take(self, check: Check, family: _Family, wanted: int) -> None:
        if len(family.places) < wanted:
            self.unknown[check] = wanted - len(family.places)
        if family.places:
            self.families[check] = family
        else:
            self.skipped[check] = f"the method gives no number for any of its {wanted} cells"

    def result(self, width: int, chosen: str) -> ScanCheck:
        """Share the rate of false positives among the checks that can fail by chance, and judge."""
        share = FALSE_POSITIVES / max(sum(family.uncertain > 0 for family in self.families.values()), 1)
        rows: list[CheckRow] = []
        for number, check in enumerate(CHECKS):
            if check not in self.families:
                continue
            family, two_sided = self.families[check], check != "wider buffers"
            limit = largest_by_chance(
                family.draw, family.uncertain or 1, share, two_sided=two_sided, seed=(self.seed, number)
            )
            scores = z_scores(family.value, family.stderr)
            numbers = zip(family.places, family.value, family.stderr, scores, strict=True)
            for (t, r, narrower), value, stderr, z in numbers:
                size = abs(z) if two_sided else z
                judged = (float(value), float(stderr), float(z), limit, bool(size <= limit))
                rows.append(CheckRow(check, t, r, *judged, narrower))
        return ScanCheck(tuple(rows), self.skipped, self.seen, self.unknown, width, chosen, notes=self._notes(rows))

    def _notes(self, rows: Sequence[CheckRow]) -> tuple[str, ...]:
        notes = []
        data, config = self.of.dataset, self.of.config
        if not self.of.complete:
            left = int((data.finished.values == 0).sum())
            notes.append(f"{left} of {data.sizes['t']} levels of the scan are not computed, and not checked")
        failed = any(not row.passed for row in rows)
        if failed and "surrogate_bias" in data and not config["options"].get("calibrate"):
            worst = float(np.nanmax(np.abs(data.surrogate_bias.values)))
            notes.append(
                f"the method misses up to {worst:.2g} nats on Gaussian data of the same covariance "
                "(surrogate_bias), which its errors do not contain"
            )
        return tuple(notes)
