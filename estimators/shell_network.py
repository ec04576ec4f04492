"""ShellNetwork: corrections to what is known of the clean A given B_r, for all widths r in one pass.

Hidden units belong to shells.  A unit of group g sees the shells 1..g and units of groups up to g, nothing farther
out, so that one pass through the whole sample gives what every B_r tells:

    logits_g = sum_{f <= g} U_f h_f + V_g h_g,

each shell a correction to what the ones within it say, and one that is for its own width alone: what all wider ones
build on is not what is best for a narrow one (U and V begin at 0).  Inner groups have more units: few pixels tell
most of what is to be known, and a narrow width that is learnt worse than a wide one reads as CMI.

Layers are residual, their matrices block-triangular, normalised within each block; the noise level scales and
shifts every layer, and the gates by which each group takes over its start.  Half of the first block of a group
begins as leading principal components of B_g: at high noise single pixels say nothing, and random sums of them
hardly more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ShellNetwork", "inner_blocks", "root_mean_square_normalised"]

_WAVES = 16  # numbers that stand for the noise level
_INNER = 6  # blocks of the first shell
_SLABS = 4  # parts of a triangular matrix: five eighths of the products of the whole


class ShellNetwork(nn.Module):
    """Corrections to the logits of A at every width.

    Parameters
    ----------
    sizes : sequence of int
        Inputs of group 0, 1, ..., m: what is known of A, then the shells.
    outputs : int
        Logits per group.
    hidden : int
        Units of a block.
    layers : int
        Residual layers.
    blocks : sequence of int, optional
        Of every group; default: `inner_blocks`.
    parities : sequence of int, optional
        More inputs of every group, beside the sizes: parities of its bits. Default: none.
    matmul : torch.dtype
        In which matrices are multiplied: bfloat16 where the machine does that fast. Sums stay in float32.
    """

    group: Tensor

    def __init__(
        self,
        sizes: Sequence[int],
        outputs: int,
        *,
        hidden: int,
        layers: int,
        blocks: Sequence[int] | None = None,
        parities: Sequence[int] = (),
        matmul: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        blocks = inner_blocks(len(sizes)) if blocks is None else [*blocks]
        ends, units = [*accumulate(sizes)], [hidden * count for count in accumulate(blocks)]
        self.sizes, self.groups, self.hidden, self.matmul = tuple(sizes), len(sizes), hidden, matmul
        self.units = units
        self.blocks = sum(blocks)
        self.register_buffer("group", torch.repeat_interleave(torch.tensor(blocks)), persistent=False)
        self.entry = _Triangular(ends, units)
        self.level = nn.Linear(_WAVES, units[-1])
        self.layers = nn.ModuleList(_Layer(units) for _ in range(layers))
        self.exit = nn.Parameter(torch.zeros(self.blocks, hidden, outputs))
        self.own = nn.Parameter(torch.zeros(self.blocks, hidden, outputs))
        self.offset = nn.Parameter(torch.zeros(self.groups, outputs))
        self.gate = nn.Linear(_WAVES, self.groups)
        nn.init.zeros_(self.gate.weight)
        nn.init.ones_(self.gate.bias)
        self.checks = _Triangular([*accumulate(parities)], units) if sum(parities) else None

    @torch.no_grad()
    def begin_at(self, components: Sequence[Tensor], first: int) -> None:
        """Let half of the first block of every group look at some directions, mixed at random.

        Parameters
        ----------
        components : sequence of (inputs, at least hidden / 2) tensors
            Orthonormal columns, of group 1, 2, ...; a group with fewer columns is left as it is.
        first : int
            Where their inputs begin.
        """
        count = self.hidden // 2
        for group, columns in enumerate(components, start=1):
            begin = self.units[group - 1]
            if columns.shape[1] < count:
                continue
            mixed = columns[:, :count] @ torch.linalg.qr(torch.randn(count, count))[0]
            rows = self.entry.weight[begin : begin + count]
            rows.zero_()
            rows[:, first : first + len(columns)] = mixed.T

    @property
    def nested(self) -> bool:
        """Whether no unit sees farther out than its own group: training keeps it so, a damaged file need not."""
        linear = [module for module in self.modules() if isinstance(module, _Triangular)]
        return not any(bool(each.weight[each.mask == 0.0].any()) for each in linear)

    def forward(self, inputs: Tensor, level: Tensor, parities: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return logits (levels, n, groups, outputs) and gates (levels, groups).

        Parameters
        ----------
        inputs : (levels, n, sum(sizes)) tensor
        level : (levels,) tensor
            In [0, 1].
        parities : (levels, n, sum(parities)) tensor, optional
        """
        waves = _waves(level)
        many, n, _ = inputs.shape
        state = self.entry(inputs.to(self.matmul).reshape(many * n, -1)).float().reshape(many, n, -1)
        if self.checks is not None and parities is not None:
            more = self.checks(parities.to(self.matmul).reshape(many * n, -1))
            state = state + more.float().reshape(many, n, -1)
        state = state + self.level(waves)[:, None]
        for layer in self.layers:
            state = state + layer(state, waves, self.blocks, self.matmul)
        state = _normalised(state, self.blocks).reshape(many * n, self.blocks, self.hidden)
        state = state.transpose(0, 1)
        passed_on = self.offset[:, None].expand(-1, many * n, -1)
        passed_on = passed_on.index_add(0, self.group, torch.bmm(state, self.exit))
        logits = passed_on.cumsum(dim=0).index_add(0, self.group, torch.bmm(state, self.own))
        return logits.transpose(0, 1).reshape(many, n, self.groups, -1), self.gate(waves)


def inner_blocks(groups: int) -> list[int]:
    """Return blocks per group: one for what is known without a shell, 6, 3, 2, 2 for the inner ones, then one each.

    Examples
    --------
    >>> inner_blocks(7)
    [1, 6, 3, 2, 2, 1, 1]
    """
    return [1, *(max(1, round(_INNER / g)) for g in range(1, groups))]


class _Layer(nn.Module):
    def __init__(self, units: list[int]) -> None:
        super().__init__()
        self.up, self.by = _Triangular(units, units), _Triangular(units, units)
        self.down = _Triangular(units, units, scale=0.3)
        self.level = nn.Linear(_WAVES, 2 * units[-1])
        nn.init.zeros_(self.level.weight)
        nn.init.zeros_(self.level.bias)

    def forward(self, state: Tensor, waves: Tensor, blocks: int, matmul: torch.dtype) -> Tensor:
        scale, shift = self.level(waves)[:, None].chunk(2, dim=2)
        inner = torch.addcmul(shift, _normalised(state, blocks), 1.0 + scale).to(matmul)
        flat = inner.reshape(-1, inner.shape[-1])
        result: Tensor = self.down(functional.silu(self.up(flat)) * self.by(flat))
        return result.float().reshape(state.shape)


class _Triangular(nn.Module):
    """A linear map in which group g of the outputs sees groups 0..g of the inputs."""

    mask: Tensor

    def __init__(self, inputs: list[int], outputs: list[int], *, scale: float = 1.0) -> None:
        super().__init__()
        mask = torch.zeros(outputs[-1], inputs[-1])
        for (a, b), end in zip(pairwise([0, *outputs]), inputs, strict=True):
            mask[a:b, :end] = 1.0
        seen = mask.sum(dim=1, keepdim=True).clamp(min=1.0)
        self.weight = nn.Parameter(torch.randn_like(mask) * mask * scale / seen.sqrt())
        self.bias = nn.Parameter(torch.zeros(outputs[-1]))
        self.register_buffer("mask", mask, persistent=False)
        groups = len(outputs)
        last = sorted({round(groups * part / _SLABS) for part in range(1, _SLABS + 1)} - {0})
        self.slabs = [
            (outputs[f - 1] if f else 0, outputs[g - 1], inputs[f], inputs[g - 1]) for f, g in pairwise([0, *last])
        ]

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = _Product.apply(x, self.weight, self.bias, self.mask, self.slabs)  # type: ignore[no-untyped-call]
        return result


class _Product(torch.autograd.Function):
    """``x weight^T + bias`` by slabs of rows, in the type of x.

    A slab is its first row and its last, the columns that its first row sees, and those that its last does.  The
    gradient is masked between them, which leaves weights that begin at 0 there.  In autograd's own steps that of
    every slab would be as large as the whole: twice the time at batches of some hundred.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mask: Tensor, slabs: list[tuple[int, int, int, int]]
    ) -> Tensor:
        weight, bias = weight.to(x.dtype), bias.to(x.dtype)
        result = x.new_empty(len(x), len(weight))
        for a, b, _, columns in slabs:
            torch.addmm(bias[a:b], x[:, :columns], weight[a:b, :columns].T, out=result[:, a:b])
        ctx.save_for_backward(x, weight, mask)
        ctx.slabs = slabs
        return result

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        x, weight, mask = ctx.saved_tensors
        (y,) = above
        by_weight = torch.empty_like(mask)
        by_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        for a, b, shared, columns in reversed(ctx.slabs):  # the last sees all columns
            by_weight[a:b, :columns] = y[:, a:b].T @ x[:, :columns]
            by_weight[a:b, shared:columns] *= mask[a:b, shared:columns]
            by_weight[a:b, columns:] = 0.0
            if by_x is None:
                continue
            if b == len(weight):
                torch.mm(y[:, a:b], weight[a:b], out=by_x)
            else:
                by_x[:, :columns].addmm_(y[:, a:b], weight[a:b, :columns])
        return by_x, by_weight, y.sum(dim=0, dtype=mask.dtype), None, None


class _Normalised(torch.autograd.Function):
    """With the gradient in one go: autograd's own steps take twice as long."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-5)
        result = x * scale
        ctx.save_for_backward(result, scale)
        return result

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> Tensor:
        result, scale = ctx.saved_tensors
        (y,) = above
        along = torch.linalg.vecdot(y, result).unsqueeze(-1) / result.shape[-1]
        return torch.addcmul(y, result, along, value=-1.0).mul_(scale)


def root_mean_square_normalised(x: Tensor) -> Tensor:
    """Divide rows by their root mean square, of which a squared 1e-5 is part, so that rows of 0 stay such."""
    result: Tensor = _Normalised.apply(x)  # type: ignore[no-untyped-call]
    return result


def _normalised(state: Tensor, blocks: int) -> Tensor:
    """Normalise each block alone: nothing is averaged over groups, which would let them see out."""
    return root_mean_square_normalised(state.reshape(*state.shape[:-1], blocks, -1)).reshape(state.shape)


def _waves(level: Tensor) -> Tensor:
    frequencies = torch.exp(torch.linspace(math.log(1.0), math.log(18.0), _WAVES // 2, device=level.device))
    phase = level[:, None] * frequencies
    return torch.cat([torch.sin(phase), torch.cos(phase)], dim=1)
