"""Scans of exact models: the CMI that they know, in the place of estimates."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import numpy as np

from cmi.estimate import CMIProfile
from cmi.exact.closed_loops import ClosedLoops
from cmi.exact.model import ExactModel
from cmi.forms import order_across
from cmi.result import PhaseScan, block_means

__all__ = ["exact_scan"]

_ORDER = 2000  # samples by which order across them is told


def exact_scan(model: ExactModel, levels: Iterable[float], widths: Iterable[int] | None = None) -> PhaseScan:
    """Return the model's own CMI over noise levels and widths, as a scan that can be printed, drawn and judged.

    Errors are those of rounding but of closed loops, whose flips are sampled: of these, the same at every level and
    width, there are the covariance of the widths and the means of blocks.

    Parameters
    ----------
    model : ExactModel
    levels : iterable of float
        Times t of the model's noise, each once.
    widths : iterable of int, optional
        Default: all that fit.

    Returns
    -------
    PhaseScan

    Examples
    --------
    >>> from cmi import exact_scan
    >>> from cmi.exact import GaussianChain
    >>> scan = exact_scan(GaussianChain(L=25), [0.3, 0.5, 0.7])
    >>> [round(xi.value, 1) for xi in scan.markov_length]  # of an endless chain 0.48, 1.07, 2.24
    [0.5, 1.1, 2.2]
    """
    times = np.unique(np.array([float(t) for t in levels]))
    if len(times) == 0:
        raise ValueError("levels are empty: give at least one time t in [0, 1]")
    schedule, partition = model.schedule(), model.partition(widths)
    config: dict[str, Any] = {
        "data": {
            "name": repr(model),
            "format": "exact",
            "n_samples": model.samples if isinstance(model, ClosedLoops) else 0,
            "shape": list(model.shape),
        },
        "noise": schedule.to_dict(),
        "method": "exact",
        "options": {},
        "center": [size // 2 for size in model.shape[-2:]],
        "radius": (model.side - 1) // 2 if isinstance(model, ClosedLoops) else 0,
        "reach": model.reach if isinstance(model, ClosedLoops) else None,
        "channel_axis": 0 if isinstance(model, ClosedLoops) else None,
        "widths": list(partition.widths),
        "seed": model.seed if isinstance(model, ClosedLoops) else 0,
        "version": version("phase-scan"),
    }
    if len(model.shape) == 1:
        x = model.sample(_ORDER, 0)
        near = [each for each in partition.shells if len(each)]
        config["order"] = order_across(*(x[:, each] for each in (partition.A, near[0], near[-1])))
    scan = PhaseScan.empty(times, schedule, partition, config)
    sizes = np.array(partition.sizes)
    dims = tuple((int(sizes[0]), int(sizes[1:cut].sum()), int(sizes[cut:].sum())) for cut in range(2, len(sizes)))
    for t in times.tolist():
        if isinstance(model, ClosedLoops):
            local = np.array([model.local(t, r) for r in partition.widths])
            covariance = np.atleast_2d(np.cov(local)) / local.shape[1] + model.rounding**2 * np.eye(len(local))
            value = local.mean(axis=1)
        else:
            exact = [model.cmi(t, r) for r in partition.widths]
            value, local = np.array([each.value for each in exact]), np.zeros((len(exact), 0))
            covariance = np.diag([each.stderr**2 + model.rounding**2 for each in exact])
        scan.put(
            t,
            CMIProfile(
                widths=np.array(partition.widths),
                value=value,
                stderr=np.sqrt(np.diagonal(covariance)),
                covariance=covariance,
                local=block_means(local),
                dims=dims,
                method="exact",
                n_samples=local.shape[1],
                bias=np.zeros_like(value),
            ),
        )
    return scan
