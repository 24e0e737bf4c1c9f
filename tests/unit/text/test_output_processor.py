from __future__ import annotations

from typing import Any

import pytest

from fakes.byte_tokenizer import EOS, HELLO, TWO_THIRDS_OF_EURO, byte_tokenizer
from fakes.engine_config import engine_config
from kvik.errors import EngineRequestError
from kvik.messages import EventKind, FinishReason, RequestEvent, StepOutputs, TokenDelta, TokenLogprobs
from kvik.sampling_params import OutputKind, SamplingParams
from kvik.text.output_processor import OutputProcessor, ProcessedStep
from kvik.text.outputs import RequestOutput
from kvik.text.processor import ProcessedRequest, Processor

TOKENIZER = byte_tokenizer()
DELTA = OutputKind.DELTA
STOP, LENGTH, ERROR = FinishReason.STOP, FinishReason.LENGTH, FinishReason.ERROR


class Bench:
    """One output processor and one request; steps are given by hand."""

    def __init__(
        self, *, interval: int = 1, request_interval: int = 1, prompt: str | list[int] = "ab", **params: Any
    ) -> None:
        self.processor = OutputProcessor(TOKENIZER, interval)
        self.request = self.add(prompt, request_interval, **params)

    def add(self, prompt: str | list[int] = "ab", request_interval: int = 1, **params: Any) -> ProcessedRequest:
        processor = Processor(engine_config().model, TOKENIZER, 100)
        request = processor.process(prompt, SamplingParams(**params), "id")
        self.processor.add_request(request, request_interval)
        return request

    def delta(self, ids: list[int], finish: FinishReason | None = None, *, index: int = 0, **more: Any) -> TokenDelta:
        return TokenDelta(self.request.engine_requests[index].request_id, ids, finish_reason=finish, **more)

    def step(self, *deltas: TokenDelta, time_s: float = 1.0) -> ProcessedStep:
        return self.processor.process(StepOutputs(list(deltas), time_s))

    def output(self, *deltas: TokenDelta) -> RequestOutput:
        ((internal_id, output),) = self.step(*deltas).outputs
        assert internal_id == self.request.internal_id
        assert isinstance(output, RequestOutput)
        return output


def test_deltas() -> None:
    bench = Bench(output_kind=DELTA)
    first = bench.output(bench.delta([HELLO, TWO_THIRDS_OF_EURO]))
    second = bench.output(bench.delta([0xAC]))
    last = bench.output(bench.delta([EOS], STOP))
    texts = [o.outputs[0].text for o in (first, second, last)]
    assert texts == [" hello", "€", ""]
    assert [o.outputs[0].token_ids for o in (first, second, last)] == [[HELLO, TWO_THIRDS_OF_EURO], [0xAC], [EOS]]
    assert [o.finished for o in (first, second, last)] == [False, False, True]
    assert (last.outputs[0].finish_reason, last.outputs[0].stop_reason) == ("stop", None)
    assert (first.prompt, first.prompt_token_ids, first.request_id) == ("ab", [*b"ab"], "id")
    assert bench.processor.num_open == 0


def test_cumulative_outputs_hold_everything() -> None:
    bench = Bench()
    first = bench.output(bench.delta([HELLO]))
    last = bench.output(bench.delta([ord("!")], LENGTH))
    assert (first.outputs[0].text, first.outputs[0].token_ids) == (" hello", [HELLO])
    assert (last.outputs[0].text, last.outputs[0].token_ids) == (" hello!", [HELLO, 33])
    assert last.outputs[0].finish_reason == "length"


def test_final_only_says_nothing_before_the_end() -> None:
    bench = Bench(output_kind=OutputKind.FINAL_ONLY)
    assert bench.step(bench.delta([HELLO])).outputs == []
    assert bench.output(bench.delta([HELLO], LENGTH)).outputs[0].text == " hello hello"


def test_n_answers_end_one_by_one() -> None:
    bench = Bench(n=2, output_kind=DELTA)
    result = bench.step(bench.delta([97], LENGTH, index=1), bench.delta([98]))
    outputs = [o for _, o in result.outputs if isinstance(o, RequestOutput)]
    assert [(o.outputs[0].index, o.outputs[0].text, o.finished) for o in outputs] == [(1, "a", False), (0, "b", False)]
    assert bench.output(bench.delta([99], LENGTH)).finished


def test_final_only_gives_all_answers_together() -> None:
    bench = Bench(n=2, output_kind=OutputKind.FINAL_ONLY)
    assert bench.step(bench.delta([97], LENGTH, index=1)).outputs == []
    output = bench.output(bench.delta([98], LENGTH))
    assert [(a.index, a.text) for a in output.outputs] == [(0, "b"), (1, "a")]
    assert len(output.times) == 2


def test_a_stop_string_ends_the_answer_and_the_engines_request() -> None:
    bench = Bench(stop=["lo"], output_kind=DELTA, logprobs=0)
    logprobs = [TokenLogprobs([i], [-1.0], [1]) for i in (HELLO, 97)]
    result = bench.step(bench.delta([HELLO, 97], new_logprobs=logprobs))
    ((_, output),) = result.outputs
    assert isinstance(output, RequestOutput)
    answer = output.outputs[0]
    assert (answer.text, answer.token_ids, answer.finish_reason, answer.stop_reason) == (" hel", [HELLO], "stop", "lo")
    assert answer.logprobs is not None
    assert len(answer.logprobs) == 1
    assert answer.cumulative_logprob == -1.0
    assert result.aborts == [bench.request.engine_requests[0].request_id]
    assert bench.step(bench.delta([97], FinishReason.ABORT)).outputs == []


def test_a_stop_string_wins_over_the_engines_own_end_and_needs_no_abort() -> None:
    bench = Bench(stop=["lo"])
    result = bench.step(bench.delta([HELLO], LENGTH))
    ((_, output),) = result.outputs
    assert isinstance(output, RequestOutput)
    assert (output.outputs[0].finish_reason, output.outputs[0].stop_reason) == ("stop", "lo")
    assert result.aborts == []


def test_a_stop_token_is_named_and_its_text_left_out() -> None:
    bench = Bench(stop_token_ids=[97])
    answer = bench.output(bench.delta([HELLO, 97], STOP, stop_reason=97)).outputs[0]
    assert (answer.text, answer.token_ids, answer.stop_reason) == (" hello", [HELLO, 97], 97)


def test_held_back_text_comes_out_at_the_end() -> None:
    bench = Bench(stop=["lo!"], output_kind=DELTA)
    assert bench.output(bench.delta([HELLO])).outputs[0].text == " hel"
    assert bench.output(bench.delta([EOS], STOP)).outputs[0].text == "lo"


@pytest.mark.parametrize(("server", "request_"), [(3, 1), (1, 3)])
def test_stream_interval(server: int, request_: int) -> None:
    bench = Bench(interval=server, request_interval=request_, output_kind=DELTA)
    shown = [
        o.outputs[0].text
        for i in b"abcdefg"
        for _, o in bench.step(bench.delta([i])).outputs
        if isinstance(o, RequestOutput)
    ]
    assert shown == ["a", "bcd", "efg"]
    bench.step(bench.delta([97]))
    assert bench.output(bench.delta([98], LENGTH)).outputs[0].text == "ab"


def test_logprobs_and_prompt_logprobs() -> None:
    bench = Bench(logprobs=1, prompt_logprobs=0, output_kind=DELTA)
    bench.step(bench.delta([], new_prompt_logprobs=[None]))
    prompt_part = [TokenLogprobs([ord("b")], [-0.5], [2])]
    new = [TokenLogprobs([97, HELLO], [-2.0, -0.1], [4, 1])]
    output = bench.output(bench.delta([97], new_prompt_logprobs=prompt_part, new_logprobs=new))
    assert output.prompt_logprobs == [None, {98: (-0.5, 2, "b")}]
    assert output.outputs[0].logprobs == [{97: (-2.0, 4, "a"), HELLO: (-0.1, 1, " hello")}]
    output = bench.output(bench.delta([98], LENGTH, new_logprobs=[TokenLogprobs([98], [-1.0], [1])]))
    assert output.prompt_logprobs is None
    assert output.outputs[0].logprobs == [{98: (-1.0, 1, "b")}]
    assert output.outputs[0].cumulative_logprob == -3.0


def test_half_characters_in_logprobs_look_back_into_the_prompt() -> None:
    bench = Bench(logprobs=0, prompt=[97, TWO_THIRDS_OF_EURO], output_kind=DELTA)
    for token_id, text in ((0xAC, "€"), (TWO_THIRDS_OF_EURO, ""), (0xAC, "€")):
        output = bench.output(bench.delta([token_id], new_logprobs=[TokenLogprobs([token_id], [0.0], [1])]))
        assert output.outputs[0].logprobs == [{token_id: (0.0, 1, text)}]


def test_an_error_of_the_engine_ends_the_whole_request_and_no_other() -> None:
    bench = Bench(n=2)
    other = bench.add()
    good = TokenDelta(other.internal_id, [97])
    result = bench.step(bench.delta([], ERROR, error="out of luck"), good, bench.delta([97], index=1))
    (failed_id, error), (other_id, output) = result.outputs
    assert (failed_id, other_id) == (bench.request.internal_id, other.internal_id)
    assert isinstance(error, EngineRequestError)
    assert "out of luck" in str(error)
    assert isinstance(output, RequestOutput)
    assert bench.request.engine_requests[1].request_id in result.aborts
    assert [f.finish_reason for f in result.stats.finished] == ["error", "error"]
    assert bench.processor.num_open == 1


def test_a_failure_in_the_detokenizer_ends_that_request_only(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    other = bench.add()
    result = bench.step(bench.delta([2**40]), TokenDelta(other.internal_id, [97]))  # no such id in any tokenizer
    (_, error), (_, output) = result.outputs
    assert isinstance(error, EngineRequestError)
    assert "could not be decoded" in str(error)
    assert isinstance(output, RequestOutput)
    assert result.aborts == [bench.request.internal_id]


def test_abort_from_outside() -> None:
    bench = Bench(n=2, output_kind=DELTA, stop=["lo!"])
    bench.step(bench.delta([HELLO]))
    assert bench.processor.internal_ids("id".__eq__) == [bench.request.internal_id] == bench.processor.internal_ids()
    assert bench.processor.internal_ids("other".__eq__) == []
    result = bench.processor.abort([bench.request.internal_id, "unknown"])
    outputs = [o for _, o in result.outputs if isinstance(o, RequestOutput)]
    assert [(o.outputs[0].text, o.outputs[0].finish_reason, o.finished) for o in outputs] == [
        ("lo", "abort", False),
        ("", "abort", True),
    ]
    assert result.aborts == [r.request_id for r in bench.request.engine_requests]
    assert bench.processor.num_open == 0


def test_prompt_steps_bring_no_output() -> None:
    bench = Bench()
    event = RequestEvent(EventKind.SCHEDULED, 1.0)
    assert bench.step(bench.delta([], events=[event])).outputs == []


def test_times_and_statistics() -> None:
    bench = Bench(max_tokens=3)
    events = [
        RequestEvent(EventKind.QUEUED, 10.0),
        RequestEvent(EventKind.SCHEDULED, 12.0),
        RequestEvent(EventKind.PREEMPTED, 12.5),
        RequestEvent(EventKind.SCHEDULED, 13.0),
    ]
    first = bench.step(bench.delta([97], events=events, num_cached_tokens=1), time_s=15.0).stats
    assert (first.num_prompt_tokens, first.num_cached_tokens, first.num_generation_tokens) == (2, 1, 1)
    assert len(first.time_to_first_token_s) == 1
    assert first.inter_token_latency_s == []
    second = bench.step(bench.delta([98]), time_s=15.5).stats
    assert (second.num_prompt_tokens, second.inter_token_latency_s, second.time_to_first_token_s) == (0, [0.5], [])
    result = bench.step(bench.delta([99], LENGTH), time_s=16.0)
    (finished,) = result.stats.finished
    assert (finished.queue_s, finished.prefill_s, finished.decode_s, finished.inference_s) == (2.0, 3.0, 1.0, 4.0)
    assert (finished.num_tokens, finished.num_preemptions, finished.max_tokens) == (3, 1, 3)
    assert (finished.num_prompt_tokens, finished.num_cached_tokens) == (2, 1)
    assert finished.total_s > 0
    assert (result.stats.finished_n, result.stats.finished_max_generation_tokens) == ([1], [3])
    ((_, output),) = result.outputs
    assert isinstance(output, RequestOutput)
    assert output.num_cached_tokens == 1
    assert (output.times[0].scheduled_s, output.times[0].last_token_s) == (12.0, 16.0)
    assert output.times[0].finished_s > 0


def test_what_another_engine_must_be_told() -> None:
    bench = Bench(output_kind=DELTA, n=2)
    assert bench.processor.resumable() == [(bench.request.internal_id, bench.request.engine_requests)]
    bench.step(bench.delta([HELLO]))
    bench.step(bench.delta([0xAC]))
    bench.step(bench.delta([EOS], STOP, index=1))
    ((_, (first,)),) = bench.processor.resumable()
    assert first.request_id == bench.request.engine_requests[0].request_id
    assert first.resumed is not None
    assert first.resumed.output_token_ids == [HELLO, 0xAC]
    assert bench.request.engine_requests[0].resumed is None


def test_prompt_logprobs_that_are_there_are_counted() -> None:
    bench = Bench(output_kind=DELTA, prompt_logprobs=1)
    bench.step(bench.delta([], new_prompt_logprobs=[None]))
    ((_, (request,)),) = bench.processor.resumable()
    assert request.resumed is not None
    assert (request.resumed.output_token_ids, request.resumed.num_prompt_logprobs) == ([], 1)


def test_an_answer_that_is_failed_takes_its_request_along() -> None:
    bench = Bench(output_kind=DELTA, n=2)
    failed = bench.processor.fail(bench.request.engine_requests[1].request_id, EngineRequestError("cursed"))
    assert [internal_id for internal_id, _ in failed.outputs] == [bench.request.internal_id]
    assert failed.aborts == [r.request_id for r in bench.request.engine_requests]
    assert bench.processor.num_open == 0
    assert bench.processor.fail("unknown", EngineRequestError("x")).outputs == []
