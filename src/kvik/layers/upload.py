"""Tensors of a checkpoint -> their places on another device, in pieces of whole rows, converted there.

Knows the rows of tensors and who wants them; how bytes travel is the business of `weights/stream.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType

import torch

from kvik.layers.parameters import Parameter
from kvik.layers.store import store_rows
from kvik.weights import RawTensor
from kvik.weights.file_source import FileSource, MemorySource
from kvik.weights.lane import Lane
from kvik.weights.stream import BUFFER_BYTES, WeightStream


class Upload:
    """`tensor` for each, in the order of the files; `finish_shard` between files. Everything is there at the exit."""

    def __init__(
        self, lane: Lane, on_bytes: Callable[[int], None], *, buffer_bytes: int = BUFFER_BYTES,
        num_readers: int | None = None,
    ) -> None:  # fmt: skip
        self._place = lane.place
        self._on_bytes = on_bytes
        self._sources: dict[Path, FileSource] = {}
        self._stack = ExitStack()
        self._stream = WeightStream(lane, buffer_bytes=buffer_bytes, num_readers=num_readers)

    def __enter__(self) -> Upload:
        self._stack.callback(self._close_files)
        self._stack.enter_context(self._stream)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def tensor(self, raw: RawTensor, parameter: Parameter) -> None:
        """Raises `ModelFileError` for a file that is short, of this tensor or of one before it."""
        if raw.span is None:
            source: FileSource | MemorySource = MemorySource(raw.data)
            offset = 0
        else:
            source, offset = self._file(raw.span.path), raw.span.offset
        num_bytes = raw.data.nbytes
        row_bytes = num_bytes // parameter.num_rows
        if row_bytes > self._stream.most_bytes:
            self._send_long_rows(source, offset, row_bytes, raw, parameter)
            return
        rows_at_once = max(1, self._stream.most_bytes // max(1, row_bytes))
        for first in range(0, parameter.num_rows, rows_at_once):
            end = min(first + rows_at_once, parameter.num_rows)
            store = partial(self._store, raw, parameter, first, num_bytes if end == parameter.num_rows else 0)
            self._stream.put(source, offset + first * row_bytes, (end - first) * row_bytes, store)

    def finish_shard(self) -> None:
        self._stream.finish()
        self._close_files()

    def _store(self, raw: RawTensor, parameter: Parameter, first: int, num_bytes_done: int, data: torch.Tensor) -> None:
        rows = slice(first, first + data.numel() // max(1, raw.data.nbytes // parameter.num_rows))
        store_rows(parameter, first, raw.fmt, data, None if raw.scales is None else raw.scales[rows])
        if num_bytes_done:
            self._on_bytes(num_bytes_done)

    def _send_long_rows(
        self, source: FileSource | MemorySource, offset: int, row_bytes: int, raw: RawTensor, parameter: Parameter
    ) -> None:
        """A row that no buffer holds is put together on the device first."""
        for row in range(parameter.num_rows):
            start, whole = offset + row * row_bytes, torch.empty(row_bytes, dtype=torch.uint8, device=self._place)
            num_bytes_done = raw.data.nbytes if row + 1 == parameter.num_rows else 0
            for first in range(0, row_bytes, self._stream.most_bytes):
                end = min(first + self._stream.most_bytes, row_bytes)
                self._stream.put(source, start + first, end - first, partial(_put_at, whole, first))
            store = partial(self._store, raw, parameter, row, num_bytes_done, whole)
            self._stream.put(source, start + row_bytes, 0, partial(_call, store))

    def _file(self, path: Path) -> FileSource:
        if path not in self._sources:
            self._sources[path] = FileSource(path)
        return self._sources[path]

    def _close_files(self) -> None:
        for source in self._sources.values():
            source.close()
        self._sources.clear()


def _put_at(whole: torch.Tensor, first: int, data: torch.Tensor) -> None:
    whole[first : first + data.numel()] = data


def _call(store: Callable[[], None], data: torch.Tensor) -> None:
    store()
