"""Exact models by name: ``exact:chain?L=33&a=0.8&n=5000`` is a model, its parameters and a number of samples."""

from __future__ import annotations

import dataclasses
from typing import Any
from urllib.parse import parse_qsl

from cmi.exact.closed_loops import ClosedLoops
from cmi.exact.gaussian import GaussianChain, GaussianField
from cmi.exact.hidden_markov import HiddenMarkovChain
from cmi.exact.model import ExactModel
from cmi.exact.two_states import Cat, RepetitionCode

__all__ = ["MODELS", "PREFIX", "SAMPLES", "model_of"]

PREFIX = "exact:"
SAMPLES = 10_000  # drawn where the name does not say how many
MODELS: dict[str, type[Any]] = {
    model.name: model
    for model in (GaussianChain, GaussianField, HiddenMarkovChain, Cat, RepetitionCode, ClosedLoops)
}


def model_of(text: str) -> tuple[ExactModel, int, int]:
    """Return the model that a name means, the number of samples, and their seed.

    Raises
    ------
    ValueError
        If there is no such model or parameter, or a value is no number of its kind.

    Examples
    --------
    >>> model_of("exact:chain?L=9&n=100")
    (GaussianChain(L=9, a=0.9), 100, 0)
    """
    name, _, query = text.removeprefix(PREFIX).partition("?")
    if name not in MODELS:
        raise ValueError(f"there is no exact model {name!r}: choose from {', '.join(MODELS)}")
    kinds = {field.name: field.type for field in dataclasses.fields(MODELS[name])} | {"n": "int", "seed": "int"}
    values: dict[str, Any] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in kinds:
            raise ValueError(f"the exact model {name!r} has no parameter {key!r}: it takes {', '.join(kinds)}")
        try:
            values[key] = int(value) if kinds[key] == "int" else float(value)
        except ValueError:
            raise ValueError(f"{key} of the exact model {name!r} must be a number, got {value!r}") from None
    n, seed = values.pop("n", SAMPLES), values.pop("seed", 0)
    if n < 1 or seed < 0:
        raise ValueError(f"n must be at least 1 and seed at least 0, got n={n}, seed={seed}")
    return MODELS[name](**values), n, seed
