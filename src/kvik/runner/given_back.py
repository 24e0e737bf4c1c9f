"""Memory of tensors on a GPU, given back to it and taken again while the tensors stay.

Tensors and their views share a storage, which torch can empty and fill in place: nobody who holds one of them needs to
hear of it. Addresses change, so what was captured with the old ones is of no use afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kvik.errors import InsufficientMemoryError
from kvik.plan import GIB
from kvik.runner.gpu import Gpu
from kvik.step import MemoryPart

Emptied = list[tuple[torch.UntypedStorage, int]]
"""Storages, and the bytes that each had."""


class GivenBack:
    """By part. A part that is not there is given back only once, one that is there is not taken again."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._emptied: dict[MemoryPart, Emptied] = {}

    @property
    def is_empty(self) -> bool:
        """Everything is where it belongs."""
        return not self._emptied

    def give_back(self, part: MemoryPart, tensors: Sequence[torch.Tensor]) -> int:
        """Bytes."""
        if part in self._emptied:
            return 0
        storages = {storage.data_ptr(): storage for storage in (tensor.untyped_storage() for tensor in tensors)}
        emptied = self._emptied[part] = [(storage, storage.nbytes()) for storage in storages.values()]
        for storage, _ in emptied:
            storage.resize_(0)
        return sum(num_bytes for _, num_bytes in emptied)

    def take_again(self, part: MemoryPart) -> None:
        """Of zeros. Raises `InsufficientMemoryError` where there is no more of it; the part is given back then."""
        emptied = self._emptied.get(part, [])
        try:
            for storage, num_bytes in emptied:
                storage.resize_(num_bytes)
                torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage).zero_()
        except torch.OutOfMemoryError:
            for storage, _ in emptied:
                storage.resize_(0)
            self._gpu.release_unused()
            raise InsufficientMemoryError(self._too_little(part, emptied)) from None
        self._emptied.pop(part, None)

    def _too_little(self, part: MemoryPart, emptied: Emptied) -> str:
        wanted, free = sum(num_bytes for _, num_bytes in emptied), self._gpu.memory().free
        return (
            f"the {part} had {wanted / GIB:.2f} GiB of {self._gpu.description}, of which {free / GIB:.2f} GiB are free "
            "now: end what took them, then wake the engine again"
        )
