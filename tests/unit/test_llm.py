"""The offline door over a model folder without weights: everything is real but the executor."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fakes.byte_tokenizer import HELLO, VOCAB_SIZE, byte_tokenizer
from fakes.fake_executor import FakeExecutor
from kvik import LLM, LoRARequest, SamplingParams
from kvik.errors import ConfigError, EngineRequestError, InvalidRequestError

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "rope_theta": 10000.0,
    "torch_dtype": "bfloat16",
    "bos_token_id": 262,
    "eos_token_id": 263,
}
TEMPLATE = "{% for m in messages %}{{ bos_token }}{{ m.role }}:{{ m.content }}{% endfor %}"
PARAMS = SamplingParams(max_tokens=4, ignore_eos=True)


class Executors:
    """Stands in for the module `kvik.executor.uniproc`; keeps what it made."""

    def __init__(self) -> None:
        self.made: list[FakeExecutor] = []

    def make(self, config: Any) -> FakeExecutor:
        self.made.append(FakeExecutor(block_size=16, max_model_len=128, vocab_size=256))
        return self.made[-1]


@pytest.fixture
def executors(monkeypatch: pytest.MonkeyPatch) -> Executors:
    executors = Executors()
    module = ModuleType("kvik.executor.uniproc")
    module.UniProcExecutor = executors.make  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kvik.executor.uniproc", module)
    return executors


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "generation_config.json").write_text(json.dumps({"temperature": 0.5, "eos_token_id": [263, 264]}))
    tokenizer_config = {"bos_token": "<|start|>", "eos_token": "<|end|>", "chat_template": TEMPLATE}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    byte_tokenizer().backend.save(str(tmp_path / "tokenizer.json"))
    return str(tmp_path)


@pytest.fixture
def llm(executors: Executors, model: str) -> Iterator[LLM]:
    with LLM(model, max_num_seqs=4, load_format="dummy") as llm:
        yield llm


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
