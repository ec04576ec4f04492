"""Stacking: how much of each of several predictions to believe, by what samples that were held out say."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from estimators.profile import FloatArray

__all__ = ["stacking_weights"]


def stacking_weights(density: FloatArray) -> FloatArray:
    """Return the weights w of the linear pool sum_k w_k p_k of highest likelihood.

    The mean of ln sum_k w_k p_k is concave in w, of which expectation and maximisation creeps along wherever the
    predictions are alike; so it is maximised by sequential quadratic programming.

    Parameters
    ----------
    density : (n, predictions) array
        Of what was held out, under each; at least 0, on any scale per row.

    Returns
    -------
    (predictions,) array
        At least 0, of sum 1.

    Examples
    --------
    >>> import numpy as np
    >>> right, wrong = np.full(1000, 0.4), np.full(1000, 0.05)
    >>> bool(stacking_weights(np.stack([right, wrong], axis=1))[0] > 0.99)
    True

    References
    ----------
    Wolpert, Neural Networks 5, 241 (1992); Yao, Vehtari, Simpson and Gelman, Bayesian Analysis 13, 917 (2018).
    """
    count = density.shape[1]
    even = np.full(count, 1.0 / count)
    density = np.nan_to_num(density)
    most = density.max(axis=1, keepdims=True)
    p = density[most[:, 0] > 0.0] / most[most[:, 0] > 0.0]
    if len(p) == 0:
        return even
    tiny = 1e-12

    def loss(weights: FloatArray) -> tuple[float, FloatArray]:
        pool = np.maximum(p @ weights, tiny)
        return -float(np.log(pool).mean()), -((1.0 / pool) @ p) / len(p)

    found = minimize(  # type: ignore[call-overload]
        loss,
        even,
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * count,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1.0, "jac": np.ones_like},
        options={"ftol": 1e-10, "maxiter": 200},
    )
    weights = np.clip(found.x, 0.0, 1.0)
    weights /= weights.sum()
    # a start that no step improved on stands
    return np.asarray(weights if loss(weights)[0] <= loss(even)[0] else even)
