"""Small arrays of the host -> the device, all in one copy that nobody waits for."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_ALIGNMENT_BYTES = 16
"""Of each array: kernels are compiled for addresses like this."""


def send(arrays: Sequence[npt.NDArray[Any]], place: torch.device) -> list[Tensor]:
    """The same arrays as tensors on `place`, parts of one piece of memory.

    To a GPU they go from pinned memory, which torch uses again only when the copy has been made: one from any other
    memory may wait for the work that is queued.
    """
    ends = list(accumulate(-(-array.nbytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES for array in arrays))
    starts = [0, *ends[:-1]]
    parcel = torch.empty(ends[-1] if ends else 0, dtype=torch.uint8, pin_memory=place.type == "cuda")
    inside = parcel.numpy()
    for start, array in zip(starts, arrays, strict=True):
        inside[start : start + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    there = parcel.to(place, non_blocking=True)
    return [_part(there, start, array) for start, array in zip(starts, arrays, strict=True)]


def _part(parcel: Tensor, start: int, array: npt.NDArray[Any]) -> Tensor:
    dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
    return parcel[start : start + array.nbytes].view(dtype).view(array.shape)
