"""What an engine and its open requests hold, as lines of the ledger. Knows no request's content."""

from __future__ import annotations

from collections.abc import Callable

from kvik.messages import EngineFacts, SchedulerStats
from kvik.telemetry.ledger import Account, Ledger
from kvik.text.processor import ProcessedRequest

INDEXED_BLOCK_BYTES = 256
"""About what the prefix cache's index takes per block: a digest, a dict's slot, a share of the block's object."""
_ID_BYTES = 8
_ANSWER_BYTES_PER_TOKEN = 24
"""An id, and its characters in a few copies."""

MAX_OPEN_REQUEST_BYTES = 1 << 30


def enter_engine(ledger: Ledger, facts: EngineFacts, last_stats: Callable[[], SchedulerStats]) -> None:
    """The engine's parts. What was reserved at its start is there whether it is used or not."""
    ledger.reserve("weights", facts.weights_bytes)
    ledger.observe("kv_cache", lambda: int(last_stats().kv_cache_usage * facts.kv_cache_bytes), facts.kv_cache_bytes)
    ledger.reserve("activations", facts.activations_bytes)
    ledger.reserve("adapters", facts.adapters_bytes)
    ledger.observe(
        "prefix_index",
        lambda: last_stats().num_indexed_blocks * INDEXED_BLOCK_BYTES,
        facts.num_blocks * INDEXED_BLOCK_BYTES,
    )


def open_requests(ledger: Ledger, limit_bytes: int) -> Account:
    """Prompts and answers of the requests that are waiting or computed."""
    return ledger.account("requests", limit_bytes, "--max-open-request-bytes")


def bytes_of(request: ProcessedRequest) -> int:
    """What a request can come to hold: its prompt as text and ids, and answers of their full length."""
    prompt_bytes = len(request.prompt or "") + _ID_BYTES * len(request.prompt_token_ids)
    most_tokens = request.params.max_tokens or 0
    return prompt_bytes + request.params.n * most_tokens * _ANSWER_BYTES_PER_TOKEN
