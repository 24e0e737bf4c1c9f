"""An executor without a model: it remembers what lies in each KV slot and picks tokens by a pure function.

Its "keys and values" of a slot are a digest of all tokens up to that position. Before it answers, it checks that
every slot which a request would read holds exactly the digest that this request expects. A block that was shared
wrongly, evicted too early or never written shows at once.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from kvik.errors import ModelFileError
from kvik.messages import EngineFacts, LoraRequest, TokenLogprobs
from kvik.step import AdmittedRequest, SampledTokens, ScheduledRequest, StepPlan, StepResult

FAILED_DIGEST = -1
"""Of what a request that has failed was to write: nobody knows what is there."""
GARBAGE_TOKEN = 10**6
"""Sampled from wrong keys and values; must never reach a client."""


def fake_token(request_id: str, position: int, vocab_size: int, period: int | None = None) -> int:
    """The token that request `request_id` has at `position`, whatever else goes on; with a period, text repeats."""
    place = position if period is None else position % period
    return zlib.crc32(f"{request_id}/{place}".encode()) % vocab_size


@dataclass
class FakeRow:
    """What the fake knows of one request."""

    admitted: AdmittedRequest
    token_ids: list[int]
    table: list[int] = field(default_factory=list)
    num_computed_tokens: int | None = None
    draft_token_ids: list[int] = field(default_factory=list)
    """Of the step that runs."""
    has_failed: bool = False

    def digest(self, position: int) -> int:
        lora = self.admitted.lora
        return hash((lora, *[*self.token_ids, *self.draft_token_ids][: position + 1]))


@dataclass
class LateStep:
    """Computed when its result is asked for, as late as can be."""

    executor: FakeExecutor
    plan: StepPlan

    def result(self) -> StepResult:
        return self.executor.execute(self.plan)


class FakeExecutor:
    """`failing` maps a request id to the position whose computation fails; its step then writes nothing of it.

    A draft's position does not fail its step: the drafts are right up to it only.
    """

    def __init__(
        self,
        *,
        num_blocks: int = 64,
        block_size: int = 4,
        max_model_len: int = 64,
        vocab_size: int = 50,
        failing: Mapping[str, int] | None = None,
        period: int | None = None,
    ) -> None:
        self.idle_pieces = 0
        """Pieces of work left for idle moments."""
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.max_model_len = max_model_len
        self.vocab_size = vocab_size
        self.failing = dict(failing or {})
        self.period = period
        self.memory: dict[int, int] = {}
        """Slot -> digest of the tokens up to it."""
        self.rows: dict[str, FakeRow] = {}
        self.num_steps = 0
        self.loaded: dict[int, LoraRequest] = {}
        """Adapters by slot."""
        self.unreadable: dict[str, str] = {}
        """What is wrong with adapters of these paths."""
        self.is_shut_down = False
        self.absent: set[str] = set()
        """Parts whose memory was given back."""
        self.restore_error: Exception | None = None

    def start(self, phases: object) -> EngineFacts:
        return EngineFacts(
            device="cpu",
            kernels="fake",
            num_threads=1,
            weights_bytes=0,
            kv_cache_bytes=0,
            num_blocks=self.num_blocks,
            block_size=self.block_size,
            max_model_len=self.max_model_len,
        )

    def shutdown(self) -> None:
        self.is_shut_down = True

    def release(self, part: str) -> int:
        self.absent.add(part)
        if part == "kv_cache":
            self.memory.clear()
        return 1 << 20

    def restore(self, part: str) -> None:
        if self.restore_error is not None:
            raise self.restore_error
        self.absent.discard(part)

    def execute(self, plan: StepPlan) -> StepResult:
        self.num_steps += 1
        assert "weights" not in self.absent, "a step without weights"
        for request_id in plan.dropped_request_ids:
            self.rows.pop(request_id, None)
        for admitted in plan.admitted:
            assert admitted.request_id not in self.rows, "admitted twice"
            self.rows[admitted.request_id] = FakeRow(admitted, list(admitted.token_ids))
            assert (admitted.lora is None) == (admitted.lora_slot < 0), "a slot without an adapter, or none with one"
            if admitted.lora is not None:
                self.load_lora(admitted.lora, admitted.lora_slot)
        failed_ids = {s.request_id for s in plan.scheduled if self._fails(s)}
        for request_id in failed_ids:
            self.rows[request_id].has_failed = True
        self._write_all(plan, failed_ids)
        return StepResult([self._answer(s, failed_ids) for s in plan.scheduled])

    def submit(self, plan: StepPlan) -> LateStep:
        return LateStep(self, plan)

    def use_idle_time(self) -> bool:
        self.idle_pieces -= self.idle_pieces > 0
        return self.idle_pieces > 0

    def count_progress_at(self, address: int) -> None:
        pass

    def load_lora(self, lora: LoraRequest, slot: int | None) -> None:
        if lora.lora_path in self.unreadable:
            raise ModelFileError(self.unreadable[lora.lora_path])
        if slot is not None:
            users = [row.admitted.lora for row in self.rows.values() if row.admitted.lora_slot == slot]
            assert all(user == lora for user in users), "two adapters in one slot"
            self.loaded[slot] = lora

    def _fails(self, share: ScheduledRequest) -> bool:
        if self.rows[share.request_id].has_failed:
            return True  # it was planned before anybody knew
        position = self.failing.get(share.request_id)
        first = share.num_computed_tokens
        return position is not None and first <= position < first + share.num_known_tokens

    def _write_all(self, plan: StepPlan, failed_ids: set[str]) -> None:
        """First all writes, then all reads, as in each layer of a model."""
        written: set[int] = set()
        for share in plan.scheduled:
            row = self._extend(share)
            first, end = share.num_computed_tokens, share.num_computed_tokens + share.num_scheduled_tokens
            slots = {self._slot(row, position): row.digest(position) for position in range(first, end)}
            assert written.isdisjoint(slots), "two requests write one slot"
            written.update(slots)
            if share.request_id in failed_ids:
                self.memory.update(dict.fromkeys(slots, FAILED_DIGEST))
            else:
                self.memory.update(slots)

    def _extend(self, share: ScheduledRequest) -> FakeRow:
        row = self.rows[share.request_id]
        assert share.num_scheduled_tokens > 0
        assert row.num_computed_tokens in (None, share.num_computed_tokens), "computed tokens jump"
        row.num_computed_tokens = share.num_computed_tokens + share.num_known_tokens
        assert row.num_computed_tokens <= len(row.token_ids) or row.has_failed, "more tokens scheduled than known"
        assert not share.draft_token_ids or row.num_computed_tokens == len(row.token_ids), "drafts before their turn"
        row.draft_token_ids = share.draft_token_ids
        row.table += share.new_block_ids
        end = share.num_computed_tokens + share.num_scheduled_tokens
        assert end < self.max_model_len, "a position beyond the context"
        assert len(row.table) * self.block_size >= end, "the table is too short"
        assert all(1 <= block_id <= self.num_blocks for block_id in row.table), "no such block"
        return row

    def _slot(self, row: FakeRow, position: int) -> int:
        return row.table[position // self.block_size] * self.block_size + position % self.block_size

    def _answer(self, share: ScheduledRequest, failed_ids: set[str]) -> SampledTokens:
        row = self.rows[share.request_id]
        if share.request_id in failed_ids:
            return SampledTokens(share.request_id, [], error="failed on purpose")
        num_computed = share.num_computed_tokens + share.num_known_tokens
        num_read = num_computed + share.num_draft_tokens
        digests = {p: self.memory.get(self._slot(row, p)) for p in range(num_read)}
        is_sound = all(digest == row.digest(p) for p, digest in digests.items())
        is_failures_fault = FAILED_DIGEST in digests.values()
        assert is_sound or is_failures_fault, f"{share.request_id} would read keys and values of other tokens"
        answer = SampledTokens(share.request_id, [], prompt_logprobs=self._prompt_logprobs(row, share))
        if num_computed == len(row.token_ids):
            answer.token_ids = self._sample(row, share) if is_sound else [GARBAGE_TOKEN]
            row.token_ids += answer.token_ids
            row.num_computed_tokens = len(row.token_ids) - 1
        row.draft_token_ids = []
        return answer

    def _sample(self, row: FakeRow, share: ScheduledRequest) -> list[int]:
        """The next token, and one more for each draft that is the token before it."""
        position, sampled = len(row.token_ids), list[int]()
        while True:
            sampled.append(fake_token(share.request_id, position, self.vocab_size, self.period))
            is_right = sampled == share.draft_token_ids[: len(sampled)]
            if not is_right or self.failing.get(share.request_id) == position:
                return sampled
            position += 1

    def _prompt_logprobs(self, row: FakeRow, share: ScheduledRequest) -> list[TokenLogprobs | None] | None:
        """Row p tells of the token at p + 1; the first position has nothing that tells of it."""
        if row.admitted.sampling_params.prompt_logprobs is None:
            return None
        first, end = share.num_computed_tokens, share.num_computed_tokens + share.num_scheduled_tokens
        told = range(first + 1, min(end + 1, row.admitted.num_prompt_tokens))
        nothing: list[TokenLogprobs | None] = [None] if first == 0 else []
        return nothing + [TokenLogprobs([row.token_ids[p]], [-1.0], [1]) for p in told]
