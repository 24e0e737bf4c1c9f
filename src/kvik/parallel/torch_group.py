"""The group of worker processes, by torch.distributed: gloo between CPUs, NCCL between GPUs.

On a CPU sums are taken in the order of the ranks, whatever the shape, so that an answer does not depend on what else
is in its batch; gloo's own sum of three and more goes round in pieces that depend on the shape. NCCL's calls can be
captured in CUDA graphs; its sums are the same for the same number of rows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from kvik.errors import EngineError
from kvik.parallel.group import sum_in_trace
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)

_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
"""Its name from torch 2.13 on, and the one before."""

MEETING_TIMEOUT = timedelta(minutes=10)
"""How long to wait for the others, at the start and within a step."""


def stay_on_this_machine(environ: MutableMapping[str, str]) -> None:
    """Let gloo and NCCL listen on the loopback interface only; what the user has set stays."""
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        environ.setdefault(name, loopback)


class TorchGroup:
    """See `Group`. One per process; `close` ends it."""

    def __init__(self, rank: int, size: int, meeting: Path, place: torch.device) -> None:
        """`meeting`: a file that is not there yet, the same for all. Waits until all have come.

        Raises `EngineError` where they cannot reach each other, with the library's reason.
        """
        self.rank = rank
        self.size = size
        self._adds_pairwise = size == 2 or place.type != "cpu"
        self._is_rehearsing = False
        is_cpu = place.type == "cpu"
        try:
            dist.init_process_group(
                "gloo" if is_cpu else "cpu:gloo,cuda:nccl",
                store=dist.FileStore(str(meeting), size),  # type: ignore[attr-defined]
                rank=rank, world_size=size, timeout=MEETING_TIMEOUT, device_id=None if is_cpu else place,
            )  # fmt: skip
        except RuntimeError as error:
            raise EngineError(f"worker {rank} cannot reach the {size - 1} other(s): {error}") from error
        logger.info("Worker %d of %d is connected by %s.", rank + 1, size, "gloo" if is_cpu else "NCCL")

    def sum(self, x: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_compiling():
            return sum_in_trace(x, self.size)
        if self._is_rehearsing:
            return x
        if self._adds_pairwise:
            dist.all_reduce(x)
            return x
        parts = x.new_empty(self.size, *x.shape)
        _gather(parts.view(-1), x.contiguous().view(-1))
        x.copy_(parts[0])
        for part in parts[1:]:
            x.add_(part)
        return x

    def join_columns(self, x: torch.Tensor, num_columns: int) -> torch.Tensor:
        num_rows, each = x.shape[0], -(-num_columns // self.size)
        mine = torch.nn.functional.pad(x, (0, each - x.shape[1])).contiguous()
        parts = mine.new_empty(self.size, num_rows, each)
        if self._is_rehearsing:
            parts.copy_(mine)
        else:
            _gather(parts.view(-1), mine.view(-1))
        return parts.transpose(0, 1).reshape(num_rows, -1)[:, :num_columns].contiguous()

    def least(self, numbers: Sequence[int]) -> list[int]:
        values = torch.tensor(numbers, dtype=torch.int64)
        dist.all_reduce(values, dist.ReduceOp.MIN)
        return [int(value) for value in values]

    def any(self, flag: bool) -> bool:
        return self.least([int(not flag)]) == [0]

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        self._is_rehearsing = True
        try:
            yield
        finally:
            self._is_rehearsing = False

    def close(self) -> None:
        dist.destroy_process_group()
