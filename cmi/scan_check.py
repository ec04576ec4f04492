"""What a self-check of a scan found: every cell with its threshold, what was skipped and why, one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    import pandas as pd

Check = Literal["permuted C", "blank C", "pure noise", "wider buffers"]

__all__ = ["CHECKS", "FALSE_POSITIVES", "Check", "CheckRow", "ScanCheck"]

CHECKS: tuple[Check, ...] = get_args(Check)
FALSE_POSITIVES = 0.01  # of all checks together


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One cell of a check.

    Parameters
    ----------
    check : {"permuted C", "blank C", "pure noise", "wider buffers"}
    level : float
        Time t of the noise schedule.
    width : int
        Buffer width r; of "wider buffers" the wider one.
    value : float
        In nats: the CMI, which should be 0; of "wider buffers" cmi(width) - cmi(narrower), which should not be
        above 0. Never clipped.
    stderr : float
        Its error; that of a difference is paired.
    z : float
        value / stderr, as `largest_z.z_scores`.
    threshold : float
        Of the whole check: |z| (z of "wider buffers") beyond it fails.
    passed : bool
    narrower : int or None
        Of "wider buffers": the width that is compared with.
    """

    check: Check
    level: float
    width: int
    value: float
    stderr: float
    z: float
    threshold: float
    passed: bool
    narrower: int | None = None

    @property
    def size(self) -> float:
        """How far out it is: |z|, or z where only values above 0 are wrong."""
        return self.z if self.check == "wider buffers" else abs(self.z)

    @property
    def place(self) -> str:
        """Where it is, as "t = 0.3, r = 2"."""
        return f"t = {self.level:.4g}, r = {self.width}" + ("" if self.narrower is None else f" > {self.narrower}")


@dataclass(frozen=True, eq=False)
class ScanCheck:
    """What a self-check found; made by `check_scan`.

    Parameters
    ----------
    rows : tuple of CheckRow
        Every cell of every check.
    skipped : dict of str to str
        By check, why it was not made.
    seen : dict of str to float
        Of "permuted C" and "blank C": the largest |z| of the same cells in the scan itself, which is what the check
        would have found, had C not been altered. Where it is not beyond the threshold, that would have passed.
    unknown : dict of str to int
        By check, for how many cells the method gave no number; they are not among the rows.
    width : int
        The width beyond which C was altered.
    chosen : str
        Why that one.
    false_positives : float
        How often, at most, something fails by chance, if the errors of the method are right.
    notes : tuple of str
        What has to be known to read the result.
    """

    rows: tuple[CheckRow, ...]
    skipped: dict[Check, str]
    seen: dict[Check, float]
    unknown: dict[Check, int]
    width: int
    chosen: str
    false_positives: float = FALSE_POSITIVES
    notes: tuple[str, ...] = ()

    def of(self, check: Check) -> tuple[CheckRow, ...]:
        """Return the cells of one check."""
        return tuple(row for row in self.rows if row.check == check)

    def worst(self, check: Check) -> CheckRow | None:
        """Return the cell of one check that is farthest out; None if it was skipped."""
        return max(self.of(check), key=lambda row: row.size, default=None)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that some cell failed."""
        return tuple(check for check in CHECKS if not all(row.passed for row in self.of(check)))

    @property
    def passed(self) -> bool:
        """Whether something was checked and nothing failed."""
        return bool(self.rows) and not self.failed

    @property
    def message(self) -> str:
        """One sentence on the outcome."""
        made = sum(bool(self.of(check)) for check in CHECKS)
        left = f", {len(self.skipped)} skipped" if self.skipped else ""
        if made == 0:
            return "nothing could be checked"
        if not self.failed:
            return f"{made} of {made} checks passed{left}"
        worst = [row for check in self.failed if (row := self.worst(check)) is not None]
        where = "; ".join(f"{row.check}, {row.value:.2g} nats at {row.place}" for row in worst)
        return f"{len(self.failed)} of {made} checks failed{left}: {where}"

    def to_dataframe(self) -> pd.DataFrame:
        """Return a table with one row per cell."""
        import pandas as pd

        names = ("check", "level", "width", "narrower", "value", "stderr", "z", "threshold", "passed")
        return pd.DataFrame({name: [getattr(row, name) for row in self.rows] for name in names})

    def __repr__(self) -> str:
        return f"ScanCheck({'passed' if self.passed else 'failed'}: {self.message})"
