"""The loss of a posterior of the clean A that is a start and a correction, and its gradient, in one pass.

Over the clean values v, with share s_v, the start's mean m and precision h, and a correction c by hat functions,

    p(v) ~ s_v exp(l_v),    l_v = gate h [(v - mu)^2 / prior - (v - m)^2] / 2 + sum_k c_k hat_k(v)

and the loss of a sample whose A was seen as w (w_v: the density of what was seen, given v) is -ln sum_v p(v) w_v.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from estimators.threads import for_ranges

__all__ = ["corrected_loss", "fast_exp", "padded"]

Float32 = NDArray[np.float32]

_LANES = 16  # values are padded to a multiple: what one instruction takes of single precision
_ROWS = 32
_F = np.float32


def padded(array: NDArray[np.floating], value: float = 0.0) -> Float32:
    """Extend the last axis to a multiple of what the kernel takes at a time."""
    more = -array.shape[-1] % _LANES
    pad = [(0, 0)] * (array.ndim - 1) + [(0, more)]
    return np.ascontiguousarray(np.pad(array, pad, constant_values=value), dtype=np.float32)


def corrected_loss(
    correction: Float32,
    quadratic: Float32,
    linear: Float32,
    seen: Float32,
    arrays: tuple[Float32, Float32, Float32],
) -> tuple[Float32, Float32, Float32, Float32]:
    """Return loss (n, G), its gradients in the correction (n, G, K), and in the quadratic and the linear part.

    Parameters
    ----------
    correction : (n, G, K) array
        c.
    quadratic, linear : (n, G) arrays
        Of l_v: quadratic v^2 + linear v.
    seen : (n, V) array
        w, on any scale; 0 where padded.
    arrays : tuple of (V,), (V,) and (K, V) arrays
        v, ln s and the hats, padded to a multiple of 16 with a share of 0.
    """
    n, groups, knots = correction.shape
    values, log_share, hats = arrays
    loss, by_quadratic, by_linear = np.empty((3, n, groups), dtype=np.float32)
    gradient = np.empty((n, groups, knots), dtype=np.float32)
    any_hat = hats > 0.0
    first = any_hat.argmax(axis=1) // _LANES * _LANES
    last = -(-(hats.shape[1] - any_hat[:, ::-1].argmax(axis=1)) // _LANES) * _LANES

    def job(start: int, stop: int) -> None:
        _losses(
            correction[start:stop],
            quadratic[start:stop],
            linear[start:stop],
            values,
            log_share,
            hats,
            first,
            last,
            seen[start:stop],
            loss[start:stop],
            gradient[start:stop],
            by_quadratic[start:stop],
            by_linear[start:stop],
        )

    for_ranges(job, n, chunk=_ROWS)
    return loss, gradient, by_quadratic, by_linear


@intrinsic
def _as_float(typing: Any, bits: Any) -> Any:  # noqa: ARG001
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), emit


@numba.njit(inline="always", fastmath=True)
def fast_exp(x: float) -> float:  # pragma: no cover
    """E^x of single precision to 4e-6, for x from -87 to 88: branches none, so that loops of it are vectorised."""
    t = max(x * _F(1.4426950408889634), _F(-126.0))
    whole = np.floor(t + _F(0.5))
    f = t - whole
    p = _F(1.54035303933816e-4)
    p = p * f + _F(1.33335581464284e-3)
    p = p * f + _F(9.61812910762848e-3)
    p = p * f + _F(5.55041086648216e-2)
    p = p * f + _F(2.40226506959101e-1)
    p = p * f + _F(6.93147180559945e-1)
    p = p * f + _F(1.0)
    return p * _as_float((np.int32(whole) + np.int32(127)) << np.int32(23))  # type: ignore[call-arg, no-any-return]


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy")
def _losses(
    correction: Float32,
    quadratic: Float32,
    linear: Float32,
    values: Float32,
    log_share: Float32,
    hats: Float32,
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    seen: Float32,
    loss: Float32,
    gradient: Float32,
    by_quadratic: Float32,
    by_linear: Float32,
) -> None:  # pragma: no cover
    n, groups, knots = correction.shape
    k = len(values)
    p, q, logits = np.empty((3, k), dtype=np.float32)
    for row in range(n):
        w = seen[row]
        for g in range(groups):
            a, b = quadratic[row, g], linear[row, g]
            for v in range(k):
                logits[v] = log_share[v] + values[v] * (b + values[v] * a)
            for knot in range(knots):
                c = correction[row, g, knot]
                hat, part = hats[knot, first[knot] : last[knot]], logits[first[knot] : last[knot]]
                for v in range(len(part)):
                    part[v] += c * hat[v]
            most = logits[0]
            for v in range(k):
                most = max(most, logits[v])
            z, u = _F(0.0), _F(0.0)
            for v in range(k):
                e = fast_exp(logits[v] - most)
                p[v] = e
                z += e
                e *= w[v]
                q[v] = e
                u += e
            u = max(u, _F(1e-37))
            loss[row, g] = np.log(z) - np.log(u)
            over_z, over_u = _F(1.0) / z, _F(1.0) / u
            one, two = _F(0.0), _F(0.0)
            for v in range(k):
                e = p[v] * over_z - q[v] * over_u
                p[v] = e
                one += e * values[v]
                two += e * values[v] * values[v]
            by_linear[row, g], by_quadratic[row, g] = one, two
            for knot in range(knots):
                hat, part = hats[knot, first[knot] : last[knot]], p[first[knot] : last[knot]]
                s = _F(0.0)
                for v in range(len(part)):
                    s += part[v] * hat[v]
                gradient[row, g, knot] = s
