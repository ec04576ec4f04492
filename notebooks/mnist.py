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
# # Reading a phase diagram of MNIST
#
# What the covariance of MNIST says about denoising the centre pixel: at which noise levels do neighbours suffice, and
# what can, and cannot, be concluded from it.
#
# `PHASE_SCAN_DATA` names a folder with `mnist/train-images-idx3-ubyte.gz`; without it the embedded 8x8 digits stand in.

# %%
import io
import os
from pathlib import Path

import numpy as np

from cmi import estimate_cmi, locate_transition, open_dataset, phase_scan, scan_sizes
from cmi.plot import plot_decay
from cmi.size_plot import plot_sizes

SMALL = os.environ.get("PHASE_SCAN_SMALL") == "1"  # for tests: the same steps on less data
file = Path(os.environ.get("PHASE_SCAN_DATA", "../shared/data")) / "mnist" / "train-images-idx3-ubyte.gz"
if file.is_file():
    data = open_dataset(str(file), limit=2000 if SMALL else 60_000).cropped("1:,1:")
else:
    data = open_dataset("digits")
print(data, *data.notes, sep="\n")


class Picture:
    """A figure as the value of a cell."""

    def __init__(self, ax):
        buffer = io.BytesIO()
        ax.figure.savefig(buffer, format="png", dpi=110)
        self.png = buffer.getvalue()

    def _repr_png_(self):
        return self.png


# %% [markdown]
# ## The map
#
# Noise levels across, buffer widths up; the colour is I(A:C|B_r) of the noised images. Above it the Markov length. At
# t = 1 there is only noise, and the CMI is 0: what the tool shows where nothing is. Hatched cells are no two errors above
# 0.

# %%
scan = phase_scan(data, levels=np.linspace(0, 1, 11))
Picture(scan.plot())

# %% [markdown]
# ## How it decays
#
# Filled points are used by the fit, dotted lines are the bar they had to pass. The farthest widths fall faster than any
# form: MNIST has an empty frame, and C ends in it. Where no form fits up to there, the fit stops at half the reach, and
# says so.

# %%
Picture(plot_decay(scan))

# %%
for t, length in zip(scan.dataset.t.values, scan.markov_length, strict=True):
    print(f"t = {t:.1f}: {length}" + (f" ({length.message})" if length.success else ""))
print(locate_transition(scan))

# %% [markdown]
# ## Several sizes
#
# One size cannot show a transition. Crops of 5, 15 and 25 pixels, with A, B and C growing alike, could: above a
# transition the larger size would have the smaller CMI. But crops of digits are not pieces of an endless image: the
# larger ones reach the frame, and A of 5x5 pixels holds a stroke.

# %%
largest = min(data.shape)
sizes = [5, 15, 25] if largest >= 25 else [5, 7]
crops = scan_sizes(data, sizes, levels=np.linspace(0.1, 0.9, 9))
print(locate_transition(crops))
Picture(plot_sizes(crops))

# %% [markdown]
# ## What the covariance does not see
#
# `gaussian` knows linear dependence only, so that the map is of the Gaussian data with the covariance of MNIST. `ksg` on
# cross-fitted predictions has no such limit, but shows what its regressions learn from so many images, which is less
# than there is: neither number is the CMI of MNIST, and where they differ by more than their errors, that is not known
# well enough.

# %%
images = data.samples[: 1000 if SMALL else 10_000]
flat = images.reshape(len(images), -1)
side = images.shape[-1]
a = (side // 2) * side + side // 2
noisy = 0.7 * flat + 0.3 * np.random.default_rng(0).standard_normal(flat.shape)
for method, options in (("gaussian", {}), ("ksg", {"features": "regression", "k": 20})):
    buffer = [a - side, a + side, a - 1, a + 1]
    found = estimate_cmi(noisy, A=[a], B=buffer, method=method, **options)
    print(f"{method}: {found.value:.4f} +- {found.stderr:.4f} nats")

# %% [markdown]
# ## To be concluded
#
# - At every level but the cleanest the CMI of the covariance falls within about two pixels, and no level stands out:
#   no sign of a transition at this size.
# - What is not linear is not in the map, and more than one size is needed before anyone says "transition".
