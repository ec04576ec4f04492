"""Denoisers of other libraries, by the one call: a UNet of diffusers, and one of azula where it is installed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cmi.denoise import (
    GaussianDenoiser,
    OnSchedule,
    from_clean,
    from_epsilon,
    receptive_field,
    sample,
    score_denoisers,
)
from cmi.exact import GaussianField


def test_a_unet_of_diffusers() -> None:
    """It counts steps from 0 to 999 and predicts the noise; scored beside an exact one of another schedule."""
    diffusers = pytest.importorskip("diffusers", reason="the extra test brings it")
    torch.manual_seed(0)

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unet = diffusers.UNet2DModel(
                sample_size=8,
                in_channels=1,
                out_channels=1,
                layers_per_block=1,
                block_out_channels=(8, 16),
                down_block_types=("DownBlock2D", "AttnDownBlock2D"),
                up_block_types=("AttnUpBlock2D", "UpBlock2D"),
                norm_num_groups=4,
            )

        def forward(self, xt: Tensor, t: Tensor) -> Tensor:
            found: Tensor = self.unet(xt, 999.0 * t).sample
            return found

    net = from_epsilon(Wrapped(), (1, 8, 8), "vp-linear")
    assert len(list(net.parameters())) > 50
    assert receptive_field(net, times=(0.5,)).seen.all()
    field = GaussianField(L=8)
    exact = GaussianDenoiser(field.covariance, shape=(1, 8, 8))
    both = {"unet": net, "exact": OnSchedule(exact, "vp-linear")}
    scores = score_denoisers(both, field.sample(50, 0), [0.3], reference="exact")
    assert float((scores.loss.sel(denoiser="unet") - scores.loss.sel(denoiser="exact")).mean()) > 0.0
    assert torch.isfinite(sample(net, 2, steps=3)).all()


def test_a_denoiser_of_azula() -> None:
    """Its own exact denoiser of a Gaussian, against this one."""
    pytest.importorskip("azula", reason="pip install 'phase-scan[foreign]'")
    from azula.denoise import GaussianDenoiser as Theirs
    from azula.linalg.covariance import DiagonalCovariance
    from azula.noise import RectifiedSchedule

    variance = torch.linspace(0.5, 2.0, 12).reshape(1, 3, 4)
    theirs = Theirs(torch.full((1, 3, 4), 0.3), DiagonalCovariance(variance), RectifiedSchedule(0.0, 0.0))

    def clean(xt: Tensor, t: Tensor) -> Tensor:
        return torch.stack([theirs(x, level).mean for x, level in zip(xt, t, strict=True)])

    net = from_clean(clean, (1, 3, 4))
    ours = GaussianDenoiser(torch.diag(variance.flatten()).numpy(), 0.3, shape=(1, 3, 4))
    xt = torch.randn(3, 1, 3, 4, generator=torch.Generator().manual_seed(0))
    for t in (0.1, 0.6, 0.99):
        assert (net(xt, t) - ours(xt, t)).abs().max() < 1e-4
