"""Gaussian-copula estimate: ranks turned into normal scores, then the Gaussian estimate.

Every column is mapped to Phi^-1(rank / (n + 1)).  Mutual information does not change under monotone maps of
single columns, so this is exact for data with a Gaussian copula whatever their marginals, and for such data as
efficient as knowing the marginals (Klaassen and Wellner 1997).  For other copulas it is a proxy that, like the
Gaussian estimate, sees one kind of dependence only.  Ties get their mean rank; the copula of data with ties is
not determined by the data, and large atoms (images that are mostly black) pull the estimate.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from estimators.gaussian import Shrinkage, gaussian_profile
from estimators.profile import FloatArray, Profile, check_layout
from estimators.threads import for_ranges

__all__ = ["copula_profile", "normal_scores"]


def normal_scores(x: NDArray[np.floating]) -> FloatArray:
    """Return Phi^-1(rank / (n + 1)) of every column, mean ranks for ties; shape (n, d).

    Examples
    --------
    >>> import numpy as np
    >>> normal_scores(np.array([[3.0], [1.0], [2.0]])).ravel().round(3).tolist()
    [0.674, -0.674, 0.0]
    """
    scores = np.empty(x.shape, dtype=np.float64)

    def rank(start: int, stop: int) -> None:
        scores[:, start:stop] = ndtri(rankdata(x[:, start:stop], axis=0) / (len(x) + 1))

    for_ranges(rank, x.shape[1], chunk=16)
    return scores


def copula_profile(
    x: NDArray[np.floating],
    sizes: Sequence[int],
    *,
    shrinkage: Shrinkage = None,
    correct_bias: bool = True,
) -> Profile:
    """CMI of the Gaussian copula with the rank correlations of the data, at every cut.

    Parameters
    ----------
    x : (n, d) float array
        Columns in the order A, S_1, ..., S_m.
    sizes : sequence of int
        (|A|, |S_1|, ..., |S_m|).
    shrinkage, correct_bias
        As in `estimators.gaussian_profile`.

    Returns
    -------
    Profile

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> a, e = rng.standard_normal((2, 100_000))
    >>> x = np.stack([np.exp(a), (a + e) ** 3], axis=1)         # I(A:C) = 1/2 log 2 whatever the marginals
    >>> bool(abs(copula_profile(x, (1, 0, 1)).value[0] - 0.5 * np.log(2)) < 0.01)
    True
    """
    check_layout(x, sizes)
    return gaussian_profile(normal_scores(x), sizes, shrinkage=shrinkage, correct_bias=correct_bias)
