"""The synchronous engine over the real `EngineCore` and an executor without a model."""

from __future__ import annotations

from typing import Any

import pytest

from fakes.byte_tokenizer import VOCAB_SIZE, byte_tokenizer
from fakes.engine_config import engine_config
from fakes.fake_executor import FakeExecutor, fake_token
from kvik.engine.core import EngineCore
from kvik.engine_client.llm_engine import LLMEngine
from kvik.errors import EngineRequestError, InvalidRequestError
from kvik.sampling_params import OutputKind, SamplingParams
from kvik.telemetry.phases import PhaseTimer
from kvik.text.outputs import RequestOutput

NO_EOS = {"ignore_eos": True, "detokenize": False}


def make(executor: FakeExecutor | None = None) -> LLMEngine:
    config = engine_config()
    core = EngineCore(config, executor or FakeExecutor(block_size=16, max_model_len=128, vocab_size=VOCAB_SIZE))
    facts = core.start(PhaseTimer("test"))
    return LLMEngine(config, core, facts, byte_tokenizer())


def run(engine: LLMEngine) -> list[RequestOutput | EngineRequestError]:
    outputs = []
    while engine.has_unfinished_requests:
        outputs += engine.step()
    return outputs


def params(**more: Any) -> SamplingParams:
    return SamplingParams(output_kind=OutputKind.FINAL_ONLY, **(NO_EOS | more))


def test_requests_run_to_their_end() -> None:
    engine = make()
    engine.add_request("a", [1, 2, 3], params(max_tokens=5))
    engine.add_request("b", "hello", params(max_tokens=2, n=2))
    outputs = {o.request_id: o for o in run(engine) if isinstance(o, RequestOutput)}
    assert [len(a.token_ids) for a in outputs["a"].outputs] == [5]
    assert [len(a.token_ids) for a in outputs["b"].outputs] == [2, 2]
    assert outputs["a"].outputs[0].finish_reason == "length"
    assert engine.step() == []


def test_a_failed_request_is_named_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda n: "0")
    engine = make(FakeExecutor(block_size=16, max_model_len=128, vocab_size=VOCAB_SIZE, failing={"bad-0": 2}))
    engine.add_request("bad", [1, 2, 3], params(max_tokens=5))
    engine.add_request("good", [1, 2, 3], params(max_tokens=5))
    outputs = run(engine)
    assert len([o for o in outputs if isinstance(o, EngineRequestError)]) == 1
    (good,) = [o for o in outputs if isinstance(o, RequestOutput)]
    assert good.outputs[0].token_ids == [fake_token("good-0", p, VOCAB_SIZE) for p in range(3, 8)]


def test_abort() -> None:
    engine = make()
    engine.add_request("a", [1], params(max_tokens=50))
    engine.step()
    (output,) = engine.abort_request("a")
    assert isinstance(output, RequestOutput)
    assert output.outputs[0].finish_reason == "abort"
    assert not engine.has_unfinished_requests
    engine.step()
    assert engine.reset_prefix_cache()


def test_a_bad_request_is_refused() -> None:
    with pytest.raises(InvalidRequestError):
        make().add_request("a", [], params())
