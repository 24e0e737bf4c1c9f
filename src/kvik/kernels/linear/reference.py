"""linear in plain torch, for any device. torch chooses the order of the fp32 sums, perhaps by the number of rows."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from kvik.kernels.linear.fp8_layout import FP8_FORMATS, split, to_fp8

GROUP = 32  # inputs with one scale
MAX_OUTLIER = 16000  # steps of the largest of them
TINY = 1e-30
WEIGHT_RANGE = 16383  # steps of a row's largest weight in 16-bit fixed point
INPUT_RANGE = 4095  # and of the largest input of a group


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x and bias in one dtype, to which the weight is converted."""
    return F.linear(x, weight.to(x.dtype), bias)


def quantized_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x [T, K] rounded as for a quantised weight, which is given dequantised. The order of sums is torch's."""
    return F.linear(round_inputs(x), weight, bias)


def round_inputs(x: torch.Tensor) -> torch.Tensor:
    """x [T, K] to whole steps in groups of 32 and back. A group with a NaN or infinity is all NaN.

    Steps are 1/127 of the group's second largest size: its largest element has up to 16,000 of them, and they are
    larger where that is not enough. Groups that reach nowhere beyond 1e-30 become zeros: a quotient could overflow.
    """
    groups = x.view(x.shape[0], -1, GROUP)
    largest, second = groups.abs().topk(2, dim=2).values.chunk(2, dim=2)
    step = torch.maximum(second * (1.0 / 127), largest * (1.0 / MAX_OUTLIER))
    codes = torch.where(largest > TINY, (groups * (1.0 / step)).round(), 0.0)
    finite = groups.isfinite().all(dim=2, keepdim=True)
    return (codes * torch.where(finite, step, torch.nan)).view(x.shape)


def fixed_point_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x [T, K] rounded as for a weight in 16-bit fixed point, which is given so rounded: `fixed_point(weight, ...)`."""
    padded = F.pad(x, (0, -x.shape[1] % GROUP))
    groups = fixed_point(padded.view(-1, GROUP), INPUT_RANGE)
    return F.linear(groups.view(padded.shape)[:, : x.shape[1]], weight, bias)


def fixed_point(rows: torch.Tensor, steps: int) -> torch.Tensor:
    """Rows [R, K] fp32 to whole numbers of `steps` of their largest size, and back.

    A row with a NaN or infinity is all NaN; one that reaches nowhere beyond 1e-30 is zeros: a quotient could overflow.
    """
    largest = rows.abs().amax(dim=1, keepdim=True)
    scale = largest * (1.0 / steps)
    codes = torch.where(largest > TINY, (rows * (1.0 / scale)).round(), 0.0)
    finite = rows.isfinite().all(dim=1, keepdim=True)
    return torch.where(finite, codes, 0.0) * torch.where(finite, scale, torch.nan)


def fp8_linear(
    x: torch.Tensor,
    rows: torch.Tensor,
    format: str,
    bias: torch.Tensor | None = None,
    input_scale: torch.Tensor | None = None,
    *,
    is_rounded: bool = True,
) -> torch.Tensor:
    """x [T, K], a weight's rows uint8 [N, ...] of fp8_layout -> [T, N] fp32: codes times codes, summed in fp32, times
    both scales; in "fp8_block" the products of 128 inputs at a time. `input_scale` [1]: that of "fp8_static".

    `is_rounded` False: inputs as they are, as in "fp8_weight_only".
    """
    found, k = FP8_FORMATS[format], x.shape[1]
    codes, scales = (part.float() for part in split(rows, format, k))
    size = found.group or k
    total = x.new_zeros(x.shape[0], codes.shape[0], dtype=torch.float32)
    for first in range(0, k, size):
        part, inputs = slice(first, first + size), x[:, first : first + size].float()
        scale = scales[None, :, first // size]
        if is_rounded and found.inputs != "exact":
            inputs, of_inputs = (found.float() for found in to_fp8(inputs, input_scale))
            scale = scale * of_inputs
        total += (inputs @ codes[:, part].T) * scale
    return total if bias is None else total + bias.float()


def gather_rows(weight: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= weight.shape[0]):
        raise IndexError(
            f"ids reach from {int(ids.min())} to {int(ids.max())}; they must lie in [0, {weight.shape[0]})"
        )
    return weight.index_select(0, ids.long())


def pack(weight: torch.Tensor) -> torch.Tensor:
    """[N, K] fp32 or bf16 -> [panels, steps, 16, unit], the layout of the native kernels."""
    unit = 4 // weight.dtype.itemsize
    n, k = weight.shape
    padded = F.pad(weight, (0, -k % unit, 0, -n % 16))
    return padded.view(-1, 16, padded.shape[1] // unit, unit).transpose(1, 2).contiguous()


def unpack(data: torch.Tensor, n: int, k: int) -> torch.Tensor:
    """The inverse of `pack`."""
    panels, steps, rows, unit = data.shape
    return data.transpose(1, 2).reshape(panels * rows, steps * unit)[:n, :k].contiguous()
