"""Weights without memory, for a process that only wants their shapes: on a GPU zeros are memory as soon as they are
made, and the one who serves has left none for a second copy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_LEAST_BYTES = 1 << 20
"""What is smaller stays as it is: tables that are computed, norms."""


@contextmanager
def hollow_weights(device: torch.device, least_bytes: int = _LEAST_BYTES) -> Iterator[None]:
    """Inside, large tensors of zeros on this kind of device have no storage: nobody may read or write them."""
    with _Hollow(device, least_bytes):
        yield


class _Hollow(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, device: torch.device, least_bytes: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._device_type = device.type
        self._least_bytes = least_bytes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        is_weight = func is torch.ops.aten.zeros.default and result.nbytes >= self._least_bytes
        if is_weight and result.device.type == self._device_type:
            result.untyped_storage().resize_(0)
        return result
