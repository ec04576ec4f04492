"""Exact models: the truths that tests and benchmarks share, and data sets by name."""

from cmi.exact.by_name import MODELS, model_of
from cmi.exact.closed_loops import ClosedLoops
from cmi.exact.gaussian import GaussianChain, GaussianField
from cmi.exact.hidden_markov import HiddenMarkovChain
from cmi.exact.model import Exact, ExactModel
from cmi.exact.two_states import Cat, RepetitionCode

__all__ = [
    "MODELS",
    "Cat",
    "ClosedLoops",
    "Exact",
    "ExactModel",
    "GaussianChain",
    "GaussianField",
    "HiddenMarkovChain",
    "RepetitionCode",
    "model_of",
]
