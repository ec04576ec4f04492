# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # When is denoising local? A tour of solvable models
#
# A denoiser that sees a pixel A and a buffer B of width r around it loses at most I(A:C|B) of what the rest C could
# tell it. Here are models whose I(A:C|B) is known exactly at every noise level, from the harmless to the one with a
# genuine phase transition: what the tool should say of each, and what it does say.

# %%
import io
import os

import numpy as np

from cmi import exact_scan, locate_transition, phase_scan, scan_sizes
from cmi.data.sample_set import SampleSet
from cmi.exact import Cat, ClosedLoops, GaussianChain, RepetitionCode
from cmi.plot import plot_decay
from cmi.size_plot import plot_sizes

SMALL = os.environ.get("PHASE_SCAN_SMALL") == "1"  # for tests: the same steps on less data


class Picture:
    """A figure as the value of a cell."""

    def __init__(self, ax):
        buffer = io.BytesIO()
        ax.figure.savefig(buffer, format="png", dpi=110)
        self.png = buffer.getvalue()

    def _repr_png_(self):
        return self.png


# %% [markdown]
# ## A Gaussian chain: local at every noise level
#
# AR(1) with correlation a = 0.9 between neighbours. Clean, it is Markov: one site on either side cuts A off, xi = 0.
# Noise hides the neighbours, so that farther sites help; but xi stays finite, and grows to 4.7 sites at most.
# The lines below are fits; the points are exact.

# %%
chain = GaussianChain(L=41, a=0.9)
levels = [0.2, 0.4, 0.6, 0.8, 0.9]
exact = exact_scan(chain, levels)
Picture(plot_decay(exact))

# %%
for t, length in zip(levels, exact.markov_length, strict=True):
    print(f"t = {t}: xi = {length}, of an endless chain {chain.markov_length(t):.2f}")

# %% [markdown]
# The same from samples, where there is noise in the estimate itself: errors contain the truth.

# %%
n = 2000 if SMALL else 20_000
scan = phase_scan(chain.sample(n, seed=0), levels=levels)
for t, length in zip(levels, scan.markov_length, strict=True):
    print(f"t = {t}: xi = {length}")
print(locate_transition(scan))

# %% [markdown]
# ## The cat: ordered data decay faster than any exponential
#
# All pixels are +1, or all -1. Every pixel of the buffer says the same about the sign, so that the CMI falls with the
# *area* of the buffer, exp(-c l^2) on a square. A Markov length fitted as exp(-r/xi) would depend on the widths that
# were looked at; the form is compared, not assumed.

# %%
cat = exact_scan(Cat(L=17, dims=2), [0.7, 0.8, 0.9])
Picture(plot_decay(cat))

# %%
for t, length in zip(cat.dataset.t.values, cat.markov_length, strict=True):
    print(f"t = {t:g}: {length.message}; held-out likelihood {dict(length.evidence)}")

# %% [markdown]
# On a line the buffer has 2r sites, and the decay is exponential with a power in front, r^(-1/2), so that widths of a
# few pixels alone look shorter than the length of r to infinity. No curve tells such a power from none; but that the
# data are ordered from end to end does, and then the power is left open between 0 and 1/2, and is part of the error:

# %%
code = RepetitionCode(L=41)
for t, length in zip([0.2, 0.4, 0.6], exact_scan(code, [0.2, 0.4, 0.6]).markov_length, strict=True):
    print(f"t = {t}: xi over r = {length.widths_used} is {length}, to infinity {code.markov_length(t):.2f}")

# %% [markdown]
# ## Closed loops: a transition at finite noise
#
# Sets of edges of even degree, every edge flipped with probability p = t/2. Below p_c = 0.1092 the loops can be
# told from the flips, above they cannot; at p_c the Markov length diverges. With A, B and C all growing with the
# lattice, the CMI of different sizes crosses there, and falls on one curve. (Entropies of syndromes, summed exactly
# by Pfaffians; see `cmi.exact.closed_loops`.)

# %%
flips = [0.16, 0.18, 0.19, 0.2, 0.21, 0.22, 0.23, 0.24, 0.25, 0.26, 0.28]
sides = {1: 1000, 2: 500} if SMALL else {2: 40_000, 4: 15_000, 6: 6_000}
loops = {
    5.0 * s: exact_scan(ClosedLoops(L=5 * s + 1, side=s, samples=count, seed=s), flips, widths=[s])
    for s, count in sides.items()
}
Picture(plot_sizes(loops))

# %%
print(locate_transition(loops))
print("known: t = 0.2184, nu = 1.53")

# %% [markdown]
# One size alone must not say so, whatever it looks like:

# %%
alone = exact_scan(ClosedLoops(L=22, side=1, samples=100 if SMALL else 4000), [0.1, 0.14, 0.18, 0.22, 0.26, 0.3])
print(locate_transition(alone))

# %% [markdown]
# ## And where there is none
#
# Samples of a chain whose sizes are many times xi: at every level the larger size has the smaller CMI.

# %%
short = SampleSet(GaussianChain(L=25, a=0.5).sample(n, 0), "a short chain", "array", n)
sizes = scan_sizes(short, [5, 15, 25], levels=np.linspace(0.1, 0.9, 9))
print(locate_transition(sizes))
Picture(plot_sizes(sizes))

# %% [markdown]
# ## What has been seen
#
# | model | decay in r | xi | verdict |
# |---|---|---|---|
# | Gaussian chain | exponential | finite at every level | none |
# | cat on a square | Gaussian | none in the usual sense | none at finite noise |
# | repetition code | exponential, a power in front | diverges at the end of the noise | none at finite noise |
# | closed loops | slow at p_c | diverges at p = 0.1092 | transition, from three sizes on |
