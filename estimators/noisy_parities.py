"""Checks: parities of noisy bits, as a posterior network sees them beside the bits.

A bit b = +-1 seen with noise has the expectation tanh(l / 2), l the logarithm of the odds (of a flipped bit, which
has the same odds everywhere, its sign is enough); the product over the bits of a word is that of its parity.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from estimators.parity_checks import BitCode

__all__ = ["Checks"]

_LEAST = 1e-6  # of |tanh|: its logarithm is summed


class Checks(torch.nn.Module):
    """Parities of the words of every column of A, grouped by the buffers that hold them.

    Parameters
    ----------
    bits : BitCode
    groups : int
        Buffers, the one without any among them.
    """

    member: Tensor
    present: Tensor
    middle: Tensor
    reach: Tensor

    def __init__(self, bits: BitCode, groups: int) -> None:
        super().__init__()
        counts = np.array([np.bincount(words.group, minlength=groups) for words in bits.words])
        self.sizes = [int(most) for most in counts.max(axis=0)]
        begins = np.cumsum([0, *self.sizes])
        member = np.zeros((len(bits.words), begins[-1], len(bits.low)))
        for target, words in enumerate(bits.words):
            for group in range(groups):
                own = words.member[words.group == group]
                member[target, begins[group] : begins[group] + len(own)] = own
        present = member.any(axis=2)
        for name, array in (
            ("member", member),
            ("present", present),
            ("middle", 0.5 * (bits.low + bits.high)),
            ("reach", 0.5 * (bits.high - bits.low)),
        ):
            self.register_buffer(name, torch.as_tensor(array, dtype=torch.float32), persistent=False)

    def seen(self, noisy: Tensor, targets: Sequence[int], sigma: Tensor) -> Tensor:
        """Return expected parities (levels, n, words) of noisy bits (levels, n, d) with noise sigma, or flipped."""
        off = noisy - self.middle
        variance = (sigma**2).clamp(min=1e-12)[:, None, None]
        soft = torch.tanh(off * self.reach / variance).abs().clamp(min=_LEAST)
        size = torch.where(sigma[:, None, None] > 0.0, soft, torch.ones_like(soft))
        which = list(targets)
        member = self.member[which].transpose(1, 2)
        odd = torch.remainder((off < 0.0).to(off.dtype) @ member, 2.0)
        return (1.0 - 2.0 * odd) * torch.exp(size.log() @ member) * self.present[which][:, None]
