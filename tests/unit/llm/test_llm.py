"""The offline door over a model folder without weights: everything is real but the executor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fakes.byte_tokenizer import HELLO
from kvik import LLM, LoRARequest, SamplingParams
from kvik.errors import ConfigError, EngineRequestError, InvalidRequestError

if TYPE_CHECKING:
    from conftest import Executors

PARAMS = SamplingParams(max_tokens=4, ignore_eos=True)


def test_outputs_come_in_the_order_of_the_prompts(llm: LLM) -> None:
    params = [SamplingParams(max_tokens=n, ignore_eos=True) for n in (9, 1, 5)]
    outputs = llm.generate(["one", "two", "three"], params)
    assert [o.prompt for o in outputs] == ["one", "two", "three"]
    assert [len(o.outputs[0].token_ids) for o in outputs] == [9, 1, 5]
    assert all(o.finished for o in outputs)


@pytest.mark.parametrize(
    ("prompts", "ids"),
    [
        (" hello", [[HELLO]]),
        ([1, 2], [[1, 2]]),
        ([[1], [2]], [[1], [2]]),
        ({"prompt_token_ids": [5]}, [[5]]),
        ([{"prompt": " hello", "cache_salt": "x"}, "a"], [[HELLO], [97]]),
        ([], []),
    ],
)
def test_forms_of_prompts(llm: LLM, prompts: Any, ids: list[list[int]]) -> None:
    assert [o.prompt_token_ids for o in llm.generate(prompts, PARAMS)] == ids


def test_chat(llm: LLM) -> None:
    messages = [{"role": "user", "content": "hi"}]
    (output,) = llm.chat(messages, PARAMS)
    assert output.prompt == "<|start|>user:hi"
    assert output.prompt_token_ids == [262, *b"user:hi"]
    assert len(llm.chat([messages, messages], PARAMS)) == 2


def test_the_models_own_defaults(llm: LLM) -> None:
    assert llm.get_default_sampling_params().temperature == 0.5


def test_bad_input_leaves_nothing_running(llm: LLM) -> None:
    for prompts, params in ((["fine", ""], PARAMS), (["a", "b"], [PARAMS]), ([{}], PARAMS)):
        with pytest.raises(InvalidRequestError):
            llm.generate(prompts, params)
        assert not llm.llm_engine.has_unfinished_requests
    assert llm.generate("a", PARAMS)[0].finished


def test_a_failed_request_ends_the_call_and_nothing_else(
    llm: LLM, executors: Executors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda n: "x")
    executors.made[0].failing = {"1-x": 2}
    with pytest.raises(EngineRequestError):
        llm.generate([[1, 2], [3, 4]], PARAMS)
    assert not llm.llm_engine.has_unfinished_requests
    assert llm.generate("a", PARAMS)[0].finished
    assert llm.reset_prefix_cache()


def test_flags_that_do_not_exist(executors: Executors, model: str) -> None:
    with pytest.raises(ConfigError, match="did you mean max_model_len"):
        LLM(model, max_model_length=5)


def test_close_gives_back_the_executor(executors: Executors, model: str) -> None:
    LLM(model, load_format="dummy").close()
    assert executors.made[0].is_shut_down


SQL, LAW = LoRARequest("sql", 1, "/adapters/sql"), LoRARequest("law", 2, "/adapters/law")


def test_adapters_one_for_all_or_one_each(executors: Executors, model: str) -> None:
    with LLM(model, load_format="dummy", enable_lora=True, max_loras=2) as llm:
        llm.generate(["a", "b"], PARAMS, lora_request=SQL)
        assert list(executors.made[0].loaded.values()) == [SQL]
        llm.generate(["a", "b"], PARAMS, lora_request=[None, LAW])
        llm.chat([{"role": "user", "content": "hi"}], PARAMS, lora_request=LAW)
        assert set(executors.made[0].loaded.values()) == {SQL, LAW}
        with pytest.raises(InvalidRequestError, match="2 prompts, 3 values"):
            llm.generate(["a", "b"], PARAMS, lora_request=[SQL, LAW, None])


def test_an_adapter_that_cannot_be_used_is_said_before_anything_runs(executors: Executors, model: str) -> None:
    with LLM(model, load_format="dummy", enable_lora=True) as llm:
        executors.made[0].unreadable[LAW.lora_path] = "rank 99 is too large"
        with pytest.raises(InvalidRequestError, match="rank 99 is too large"):
            llm.generate(["a", "b"], PARAMS, lora_request=[SQL, LAW])
        assert executors.made[0].num_steps == 0
        assert llm.generate("a", PARAMS, lora_request=SQL)[0].finished


def test_adapters_need_the_flag(llm: LLM) -> None:
    with pytest.raises(InvalidRequestError, match="--enable-lora"):
        llm.generate("a", PARAMS, lora_request=SQL)
