"""What the runner remembers of each running request between steps: one row of tables per request.

Written by `admit`, `append_blocks`, `await_token`, `append_token` and `drop`; read by the batch builder. Knows no
tensor.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kvik.sampling.state import SamplingState
from kvik.step import AdmittedRequest


class RequestRow:
    """One running request. `index` is its row in the tables, -1 once it is dropped."""

    __slots__ = (
        "index", "lora_slot", "num_awaited_tokens", "num_blocks", "num_prompt_tokens", "num_tokens", "request_id",
        "sampling",
    )  # fmt: skip

    def __init__(self, index: int, request: AdmittedRequest, sampling: SamplingState) -> None:
        self.index = index
        self.request_id = request.request_id
        self.num_prompt_tokens = request.num_prompt_tokens
        self.num_tokens = len(request.token_ids)
        """Whose ids are known here."""
        self.num_awaited_tokens = 0
        """Of steps that were launched and are not finished."""
        self.num_blocks = 0
        self.lora_slot = request.lora_slot
        self.sampling = sampling

    @property
    def num_sure_tokens(self) -> int:
        """Known or awaited."""
        return self.num_tokens + self.num_awaited_tokens


class RequestTable:
    """Token ids and block ids of all running requests, as matrices that grow nowhere.

    The matrices are zero pages until a row is written, so their size costs address space, not memory.
    """

    def __init__(self, max_num_seqs: int, max_model_len: int, block_size: int, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._max_model_len = max_model_len
        max_num_blocks = -(-max_model_len // block_size)
        self.token_ids: npt.NDArray[np.int32] = np.zeros((max_num_seqs, max_model_len), np.int32)
        self.block_ids: npt.NDArray[np.int32] = np.zeros((max_num_seqs, max_num_blocks), np.int32)
        self._rows: dict[str, RequestRow] = {}
        self._free = list(range(max_num_seqs - 1, -1, -1))

    def __getitem__(self, request_id: str) -> RequestRow:
        return self._rows[request_id]

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def admit(self, request: AdmittedRequest) -> None:
        """Give the request a row. Raises `InvalidRequestError` for parameters that no sampler can follow."""
        sampling = SamplingState(
            request.sampling_params,
            request.token_ids,
            request.num_prompt_tokens,
            request.eos_token_id,
            self._vocab_size,
        )
        row = RequestRow(self._free.pop(), request, sampling)
        self._rows[request.request_id] = row
        self.token_ids[row.index, : row.num_tokens] = request.token_ids

    def append_blocks(self, row: RequestRow, block_ids: list[int]) -> None:
        end = row.num_blocks + len(block_ids)
        self.block_ids[row.index, row.num_blocks : end] = block_ids
        row.num_blocks = end

    def write_drafts(self, row: RequestRow, draft_token_ids: list[int]) -> None:
        """Put guesses behind the known tokens for one step; `append_token` writes over those that were wrong."""
        end = row.num_tokens + len(draft_token_ids)
        self.token_ids[row.index, row.num_tokens : end] = draft_token_ids

    def await_token(self, row: RequestRow) -> None:
        """The next token is being chosen; until `append_token` tells it, -1 stands in its place."""
        place = row.num_tokens + row.num_awaited_tokens
        if place < self._max_model_len:
            self.token_ids[row.index, place] = -1
        row.num_awaited_tokens += 1

    def append_token(self, row: RequestRow, token_id: int) -> None:
        """The next token is known. Of a request that was dropped meanwhile nobody wants to know it."""
        if row.index < 0:
            return
        if row.num_awaited_tokens:
            row.num_awaited_tokens -= 1
        if row.num_tokens < self._max_model_len:
            self.token_ids[row.index, row.num_tokens] = token_id
        row.num_tokens += 1
        row.sampling.append(token_id)

    def drop(self, request_id: str) -> None:
        """Forget a request; one that was never admitted here is fine (aborted while it waited)."""
        row = self._rows.pop(request_id, None)
        if row is not None:
            self._free.append(row.index)
            row.index = -1
