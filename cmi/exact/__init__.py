"""Exact models: the truths that tests and benchmarks share, and data sets by name."""

from cmi.exact.gaussian import GaussianChain, GaussianField
from cmi.exact.hidden_markov import HiddenMarkovChain
from cmi.exact.model import Exact, ExactModel
from cmi.exact.two_states import Cat, RepetitionCode

__all__ = ["Cat", "Exact", "ExactModel", "GaussianChain", "GaussianField", "HiddenMarkovChain", "RepetitionCode"]
