"""Log lines about requests, where --enable-log-requests asks for them. Prompts appear at level DEBUG only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvik.config.frontend import ServerConfig
from kvik.telemetry.log import get_logger
from kvik.telemetry.request_times import RequestTimes
from kvik.text.outputs import CompletionOutput

if TYPE_CHECKING:
    from kvik.server.generation import EngineCall

logger = get_logger(__name__)


class RequestLog:
    """Writes what the flags ask for, and nothing by default."""

    def __init__(self, config: ServerConfig) -> None:
        self._logs_requests = config.enable_log_requests
        self._logs_outputs = config.enable_log_requests and config.enable_log_outputs
        self._logs_deltas = self._logs_outputs and config.enable_log_deltas
        self._max_length = config.max_log_len
        self._texts: dict[tuple[str, int], str] = {}

    def received(self, call: EngineCall) -> None:
        if self._logs_requests:
            logger.info("Received request %s: params: %s", call.request_id, call.params)
            for prompt in call.prompts:
                logger.debug("Request %s: prompt: %r", call.request_id, prompt[: self._max_length])

    def streamed(self, request_id: str, answer: CompletionOutput) -> None:
        """A piece of an answer; the whole answer is logged at its end."""
        if not self._logs_outputs:
            return
        if self._logs_deltas:
            self._write("streaming delta", request_id, answer.text, answer.token_ids, answer.finish_reason)
        text = self._texts.pop((request_id, answer.index), "") + answer.text
        if answer.finished:
            self._write("streaming complete", request_id, text, (), answer.finish_reason)
        else:
            self._texts[request_id, answer.index] = text

    def generated(self, request_id: str, answer: CompletionOutput) -> None:
        if self._logs_outputs:
            self._write("complete", request_id, answer.text, answer.token_ids, answer.finish_reason)

    def ended(self, request_id: str, times: RequestTimes) -> None:
        """The last line of a request, whatever it ended with."""
        if self._logs_requests:
            logger.info("Finished request %s: %s", request_id, summary(times))

    def _write(
        self, what: str, request_id: str, text: str, token_ids: Sequence[int], finish_reason: str | None
    ) -> None:
        cut = slice(0, self._max_length)
        logger.info(
            "Generated response %s (%s): output: %r, output_token_ids: %s, finish_reason: %s",
            request_id, what, text[cut], list(token_ids[cut]), finish_reason,
        )  # fmt: skip


def summary(times: RequestTimes) -> str:
    """What became of a request and where its time went, in one line."""
    queue = f"queue {times.queue_s:.3f}" + (f" for {times.waiting_for}" if times.waiting_for else "")
    return (
        f"{times.finish_reason or 'not finished'}, {times.num_prompt_tokens} prompt tokens "
        f"({times.num_cached_tokens} cached), {times.num_tokens} new tokens in {times.total_s:.3f} s: "
        f"prepare {times.prepare_s:.3f}, {queue}, prefill {times.prefill_s:.3f}, decode {times.decode_s:.3f}, "
        f"detokenize {times.detokenize_s:.4f}; {times.num_preemptions} preemptions"
    )
