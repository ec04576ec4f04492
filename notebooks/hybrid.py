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
# # Where is the global network needed?
#
# A diffusion model denoises at many levels of noise. At which of them must the network see the whole image, and what is
# lost where it sees a square of 5 x 5 pixels only? Here local denoisers, whose field is exactly their square, and a global
# U-Net are trained on MNIST, scored on images that they have not seen, and put into one sampler after the other.
#
# `PHASE_SCAN_DATA` names a folder with the four IDX files in `mnist`; without it the embedded 8x8 digits stand in. Networks
# and scores that are in `PHASE_SCAN_HYBRID`, where `benchmarks/hybrid.py --out` put them, are not made again.

# %%
import io
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch

here = Path(__file__).parent if "__file__" in globals() else Path.cwd()
sys.path.insert(0, str(here.parent / "benchmarks"))
import hybrid

from cmi import open_dataset, phase_scan
from cmi.denoise import images_of, plan_schedule, plot_gap_maps, plot_gaps, plot_plan, receptive_field, time_grid

SMALL = os.environ.get("PHASE_SCAN_SMALL") == "1"  # for tests: the same steps on less data
folder = Path(os.environ.get("PHASE_SCAN_DATA", "../shared/data")) / "mnist"
real = folder.is_dir() and not SMALL
kept = Path(os.environ.get("PHASE_SCAN_HYBRID") or tempfile.mkdtemp())
if real:
    settings = hybrid.QUICK
    data = open_dataset(str(hybrid.idx(folder, "train-images-idx3-ubyte")))
    images = hybrid.open_images(folder, settings, seed=0)
else:
    minutes = (0.01, 0.02) if SMALL else (0.05, 0.1)
    settings = hybrid.Settings(*minutes, width=8, global_width=8, scored=150, drawn=50, steps=12, radii=(0, 1, 2))
    data = open_dataset("digits")
    every = images_of(data)
    images = hybrid.Images(every[:1300], every[1300:1450], every[1450:])


class Picture:
    """A figure as the value of a cell."""

    def __init__(self, figure):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
        self.png = buffer.getvalue()

    def _repr_png_(self):
        return self.png


print(
    data,
    "\nimages to train on, to score, to compare with:",
    *(len(part) for part in (images.train, images.scored, images.real)),
)

# %% [markdown]
# ## Networks, and what they see
#
# All local networks have one depth and width and as long to train; only kernels grow. What a network sees is measured:
# which pixels of the input have any gradient, and which change the output when they are replaced. For a local network it
# must be within the square that it claims, to the last bit (pixels that are always black tell nothing, and are not seen).

# %%
nets = hybrid.networks(images, settings, kept, seed=0)
for name, net in nets.items():
    field = receptive_field(net)
    claim = "everything" if net.radius is None else f"{net.radius} pixels far"
    print(f"{name:7} claims to see {claim}; measured: {field.radius}")

# %% [markdown]
# ## What locality costs at every level of noise
#
# The gap is how much larger the loss of a local network is than that of the global one, on the same noisy images. Half of it
# times the SNR is what it costs in nats per factor e of the SNR: the bound on KL(data || SDE sampler) is its integral.

# %%
scores = hybrid.scored(nets, images, settings, kept, seed=0)
hybrid.loss_table(scores)
Picture(plot_gaps(scores).figure)

# %%
Picture(plot_gap_maps(scores, f"r = {settings.radii[1]}"))

# %% [markdown]
# Where there is ink there is a gap, at no level in one part of the image only.
#
# ## The Markov length
#
# How fast the CMI falls with the width of the buffer, of the same images by their covariance (seconds; what it cannot see,
# `method="posterior"` does).

# %%
scan = phase_scan(data, levels=[0.1 * k for k in range(1, 10)])
for t, length in zip(scan.dataset.t.values, scan.markov_length, strict=True):
    print(f"t = {t:.1f}: xi = {length}")

# %% [markdown]
# ## The plan
#
# For every step of the sampler the cheapest network, so that the certificate stays within a budget of nats: an integer
# programme, solved exactly, by one half of the scored images, and certified by the other. Nats count what little noise hides,
# so the budget is for images with noise of t = 0.2 left on them, and a narrow network finishes; the certificate down to
# t = 0.02 is printed beside it.

# %%
times, below = time_grid(settings.steps), f"r = {settings.radii[1]}"
plans = {
    b: plan_schedule(scores, times, budget_nats=b, until=hybrid.UNTIL, below=below) for b in hybrid.BUDGETS[:3]
}
for budget, plan in plans.items():
    where = ", ".join(f"{low:.2f} to {high:.2f}" for low, high in plan.window) or "nowhere"
    print(
        f"{budget:g} nats: {plan.share:.0%} of the operations, certified {plan.certificate.kl:.2g} +- "
        f"{plan.certificate.stderr:.1g} nats down to t = {hybrid.UNTIL} ({plan.whole.kl:.1f} to {plan.whole.until:.2g}), "
        f"global at t = {where}"
    )
plan = plans[hybrid.BUDGET]
Picture(plot_plan(plan, scores, scan).figure)

# %% [markdown]
# ## Samples
#
# Global in every step, local in every step, as planned, the other way round, and global in as few steps as cost what the
# plan costs. Distances are from images that nothing was trained on, planned or scored by; *real images* are as many of
# those, against the rest: what a perfect sampler would read.

# %%
torch.manual_seed(0)
draws = hybrid.Draws(nets, scores, images, settings.drawn, 0, hybrid.UNTIL, kept)
made = hybrid.schedules(plan, plan, scores, draws.share(plan.schedule, settings.steps))
rows = [
    draws.row(label, made[label])
    for label in ("global", "local", "planned", "swapped", "equal cost")
    if label in made
]
print(hybrid.printed([*rows, {"schedule": "real images", **draws.floor}]))

# %%
from matplotlib.image import imread

from cmi.figures import new_figure

labels = [label for label in ("global", "planned", "local") if (kept / f"drawn_{label}.png").is_file()]
figure = new_figure(7.2, 1.5)
for ax, label in zip(np.atleast_1d(figure.subplots(1, len(labels))), labels, strict=True):
    ax.imshow(imread(kept / f"drawn_{label}.png"))
    ax.set_title(label, fontsize=9, loc="left")
    ax.set_axis_off()
Picture(figure)

# %% [markdown]
# ## What quality costs
#
# Plans of several budgets and plans of fewer steps, each at its share of the operations, and the honest rival: the global
# network in as few steps as cost the same. (With the files of a run of the benchmark, of the images that it drew.)

# %%
measure = "frechet" if images.features is not None else "wasserstein"
if (kept / "trade_off.csv").is_file():
    curve = pd.read_csv(kept / "trade_off.csv")
else:
    fewer = [time_grid(max(3, round(share * settings.steps))) for share in hybrid.SHORT[1:3]]
    short = [
        plan_schedule(scores, grid, budget_nats=hybrid.BUDGET, until=hybrid.UNTIL, below=below) for grid in fewer
    ]
    curve, _ = hybrid.trade_off(draws, plans, short, settings.steps, f"r = {settings.radii[-1]}")
Picture(hybrid.plot_trade_off(curve, draws.floor, measure).figure)

# %% [markdown]
# ## What is settled, and what is not
#
# - Of MNIST a local network of 5 x 5 pixels is as good as this U-Net below t = 0.1, and loses little above 0.8. In between
#   the global one is needed, most at t = 0.35 to 0.45, and no radius up to 8 replaces it there.
# - The Markov length is about two pixels at every level, where the plan is local and where it is not: a plan pays for how
#   large the CMI is, not for how far it reaches.
# - In 40 steps a plan needs two thirds of the operations to draw images as near to real ones as the global network does; one
#   of 14 steps does it with a quarter. Most of that is owed to fewer steps: 11 of the global network, which cost as much, are
#   as good. Below a fifth of the operations the plan is the better of the two.
# - What a local network loses has two parts, sight and training, and the gap holds both: by the CMI, radius 8 should lose far
#   less than it does. Minutes on two cores are not what decides for a larger network.
