"""Training of denoisers: fresh noise at every step and at all levels of noise, the best weights by held-out loss.

What is lowered is the mean over t, uniform in [0, 1], of |x0_hat - x0|^2 per pixel in units of what the network
corrects (`Preconditioned.scale`), so that every level counts alike.  The best of the averaged weights is chosen by
images that are not trained on; how good it is, other images must say (`score_denoisers`).

Where the machine multiplies matrices of bfloat16 faster, forward and backward passes run in it (autocast; weights,
sums and losses stay in single precision).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cmi.checks import LARGEST_SEED, whole_number
from cmi.denoise.checkpoint import Checkpoint
from cmi.denoise.images import fingerprint, images_of, parted
from cmi.denoise.networks import Preconditioned
from cmi.denoise.signature import image_signatures
from cmi.denoise.trainer import Look, Settings, Trainer, Training, fast_matmul, find_device, trained

__all__ = ["Look", "Training", "train_denoiser"]

LEAST = 50  # images
_SHARE, _MOST = 0.1, 256  # of the images are held out to choose by, and at most so many: looks are at all of them


def train_denoiser(
    denoiser: Preconditioned,
    data: Any,
    *,
    minutes: float = 5.0,
    steps: int | None = None,
    batch: int = 32,
    rate: float | None = None,
    held_out: int | None = None,
    seed: int = 0,
    device: str = "auto",
    file: str | Path | None = None,
    about: Mapping[str, Any] | None = None,
    progress: Callable[[Look], None] | None = None,
) -> Training:
    """Train a denoiser in place.

    Parameters
    ----------
    denoiser : LocalDenoiser, GlobalDenoiser or another `Preconditioned`
        Its mean and spread of pixels are taken from the images, and it remembers which they were.
    data : SampleSet, array or tensor
        Clean images, as in `images_of`.
    minutes : float
        How long; the learning rate falls with the clock.
    steps : int, optional
        In place of the minutes: the result then does not depend on the speed of the machine, but for rounding:
        it is in bfloat16 where the machine multiplies that faster.
    batch : int
        Images per step, each at another level.
    rate : float, optional
        Learning rate of AdamW. Default: that of the network (`Preconditioned.rate`).
    held_out : int, optional
        Images to choose the weights by, drawn at random. Default: one in ten, at most 256: looks at more cost
        training, and all are at the same noise.
    seed : int
        Of the split, the noise and the batches. The weights begin as the network was made.
    device : str
        "auto" (CUDA, MPS or the CPU, whichever there is first), or one of torch; the denoiser stays there.
    file : path, optional
        Training is kept there every minute and goes on from there; then it holds the network, for `load_denoiser`.
    about : dict of plain values, optional
        Kept in the file, for `describe_denoiser`: what the images are, say.
    progress : callable, optional
        Takes a `Look` at the held-out loss, sixteen times.

    Returns
    -------
    Training
        Steps, and the held-out loss as it fell.

    Raises
    ------
    TypeError, ValueError
        For images of another shape or fewer than 50, bad options, and the file of another training.
    TrainingError
        A RuntimeError, if the loss is not finite again and again, or the held-out loss never.

    Examples
    --------
    >>> import torch
    >>> from cmi.denoise import LocalDenoiser
    >>> from cmi.exact import GaussianField
    >>> field = GaussianField(L=6).sample(500, 0)
    >>> torch.manual_seed(0) and None
    >>> net = LocalDenoiser((1, 6, 6), 1, width=8, depth=2)
    >>> found = train_denoiser(net, field, steps=60, device="cpu")
    >>> found.looks[-1].held_out < found.looks[0].held_out
    True
    """
    if not isinstance(denoiser, Preconditioned):
        raise TypeError(
            "train_denoiser is for LocalDenoiser, GlobalDenoiser and other Preconditioned networks, not for "
            f"{type(denoiser).__name__}: train a model of your own with your own code, and wrap it afterwards"
        )
    images = images_of(data)
    if tuple(images.shape[1:]) != denoiser.shape:
        raise ValueError(f"the denoiser takes images of {denoiser.shape}, these are {tuple(images.shape[1:])}")
    if len(images) < LEAST:
        raise ValueError(f"to train a denoiser takes at least {LEAST} images, got {len(images)}")
    steps = None if steps is None else whole_number(steps, "steps", least=1)
    rate = denoiser.rate if rate is None else rate
    batch, seed = whole_number(batch, "batch", least=1), whole_number(seed, "seed", least=0, most=LARGEST_SEED)
    for name, value in (("minutes", minutes), ("rate", rate)):
        if not 0.0 < value < float("inf"):
            raise ValueError(f"{name} must be above 0 and finite, got {value}")
    count = (
        min(round(_SHARE * len(images)), _MOST) if held_out is None else whole_number(held_out, "held_out", least=1)
    )
    train, held = parted(len(images), count, seed)
    settings = Settings(minutes, steps, rate, batch, seed)
    options = {"minutes": None if steps is not None else minutes, "steps": steps, "batch": batch, "rate": rate}
    made = {**options, "held_out": count, "seed": seed, "images": fingerprint(images)}
    checkpoint = Checkpoint(file, denoiser, made, dict(about or {}))
    where = find_device(device)
    seen = [image_signatures(images), *denoiser.seen_images()]
    denoiser.trained_on = torch.cat(seen) if checkpoint.seen is None else checkpoint.seen
    denoiser.fit_moments(images[train])
    denoiser.to(where)
    run = _DenoiserTrainer(denoiser, images[train].to(where), images[held].to(where), settings)
    return trained(run, saved=checkpoint.saved, save=checkpoint.keep, progress=progress)


class _DenoiserTrainer(Trainer):
    def __init__(self, denoiser: Preconditioned, clean: Tensor, held: Tensor, settings: Settings) -> None:
        super().__init__(denoiser, settings, clean.device)
        self.denoiser, self.clean, self.held = denoiser, clean, held
        self.matmul = fast_matmul(clean.device)

    def state(self) -> dict[str, Any]:
        """With the precision, which the machine that goes on may not choose again."""
        return {**super().state(), "matmul": str(self.matmul).removeprefix("torch.")}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from there, in the same precision."""
        super().load(state)
        self.matmul = torch.bfloat16 if state.get("matmul") == "bfloat16" else torch.float32

    def losses(self) -> Tensor:
        """Loss of every image of a batch, its levels spread evenly over [0, 1]."""
        many = self.settings.batch
        chosen = torch.randint(len(self.clean), (many,), generator=self.generator, device=self.device)
        offsets = torch.rand(many, generator=self.generator, device=self.device)
        return self._loss(self.clean[chosen], (torch.arange(many, device=self.device) + offsets) / many)

    def held_out(self) -> float:
        """Mean over images, the levels even."""
        total = 0.0
        for some in torch.split(self.held, 128):
            t = (torch.arange(len(some), device=self.device) + 0.5) / len(some)
            total += float(self._loss(some, t).sum())
        return total / len(self.held)

    def _loss(self, x0: Tensor, t: Tensor) -> Tensor:
        noise = self.denoiser.noise
        alpha, sigma = (
            torch.as_tensor(part(t.cpu().double().numpy())).to(x0)[:, None, None, None]
            for part in (noise.alpha, noise.sigma)
        )
        eps = torch.randn(x0.shape, generator=self.generator, device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.matmul == torch.bfloat16):
            found = self.denoiser(alpha * x0 + sigma * eps, t)
        off = (found.float() - x0).square().mean(dim=(1, 2, 3))
        losses: Tensor = off / self.denoiser.scale(alpha, sigma).clamp_min(1e-12)
        return losses
