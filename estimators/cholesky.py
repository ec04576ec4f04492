"""Cholesky factors of covariance matrices in a fixed order, with determined columns left out."""

from __future__ import annotations

import numpy as np
from scipy.linalg import LinAlgError, cholesky

from estimators.profile import BoolArray, FloatArray

__all__ = ["DETERMINED", "ordered_cholesky"]

# A column whose variance given the earlier ones is below this share of its own variance counts as determined
# by them.  Rounding in a factor of a thousand columns leaves about 1e-13; real data stay far above.
DETERMINED = 1e-10


def ordered_cholesky(matrix: FloatArray, *, determined: float = DETERMINED) -> tuple[FloatArray, BoolArray]:
    """Factor a covariance matrix column by column, skipping those that the earlier columns determine.

    A skipped column is a linear function of columns before it, so nothing conditioned on those changes with
    it; pivoting would find the same rank but lose the order, and with it the nested buffers.

    Parameters
    ----------
    matrix : (d, d) array
        Symmetric, positive semi-definite up to rounding.
    determined : float
        Share of its own variance below which what is left of a column counts as rounding. With noise nothing is
        ever determined: then give 0, and only pivots that rounding has made negative are skipped.

    Returns
    -------
    factor : (kept, kept) array
        Lower triangular L with L L^T = matrix[kept][:, kept].
    kept : (d,) bool array

    Examples
    --------
    >>> import numpy as np
    >>> factor, kept = ordered_cholesky(np.array([[1.0, 1.0, 0.5], [1.0, 1.0, 0.5], [0.5, 0.5, 1.0]]))
    >>> kept.tolist()
    [True, False, True]
    """
    variances = np.diagonal(matrix)
    try:
        factor = cholesky(matrix, lower=True, check_finite=False)
    except LinAlgError:
        pass
    else:
        if np.all(np.diagonal(factor) ** 2 > determined * variances):
            return factor, np.ones(len(matrix), dtype=np.bool_)
    # Left-looking, one column at a time: slower, and needed only where noise does not lift the small pivots.
    factor = np.zeros_like(matrix)
    kept = np.zeros(len(matrix), dtype=np.bool_)
    rank = 0
    for j, variance in enumerate(variances):
        column = matrix[j:, j] - factor[j:, :rank] @ factor[j, :rank]
        if column[0] > determined * variance and variance > 0.0:
            factor[j:, rank] = column / np.sqrt(column[0])
            kept[j] = True
            rank += 1
    return np.ascontiguousarray(factor[kept, :rank]), kept
