"""Adapters in a real server: at the start, loaded while it runs, several in one batch, and refused."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from openai import NotFoundError, OpenAI

from kvik.modelfile import embedded_model_path, open_model
from support.adapters import write_adapter
from support.server import MODEL, KvikServer, eventually

PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    spec = open_model(str(embedded_model_path())).spec
    root = tmp_path_factory.mktemp("adapters")
    made = [write_adapter(root / str(i), spec, seed=i, rank=(8, 16, 4)[i], size=5.0) for i in range(3)]
    return [*made, write_adapter(root / "large", spec, rank=32, modules=["q_proj"])]


@pytest.fixture(scope="module")
def served(folders: list[Path]) -> Iterator[KvikServer]:
    flags = ("--enable-lora", "--max-loras", "2", "--max-model-len", "512", "--lora-modules", f"zero={folders[0]}")
    with KvikServer(*flags, env={"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}) as running:
        for i, name in ((1, "one"), (2, "two")):
            body = {"lora_name": name, "lora_path": str(folders[i])}
            status, text, _ = running.request("POST", "/v1/load_lora_adapter", body)
            assert (status, text) == (200, f"Success: LoRA adapter '{name}' added successfully.")
        yield running


def answer(served: KvikServer, model: str, max_tokens: int = 12) -> Any:
    with served.client() as client:
        completion = client.completions.create(
            model=model, prompt=PROMPT, max_tokens=max_tokens, temperature=0, logprobs=1,
            extra_body={"ignore_eos": True},
        )  # fmt: skip
    assert completion.model == model
    return completion.choices[0].text, completion.choices[0].logprobs.token_logprobs  # type: ignore[union-attr]


def test_they_are_listed(served: KvikServer, folders: list[Path]) -> None:
    cards = served.request("GET", "/v1/models")[1]["data"]
    listed = {card["id"]: (card["root"], card["parent"]) for card in cards[1:]}
    assert listed == {name: (str(folders[i]), MODEL) for i, name in enumerate(("zero", "one", "two"))}


def test_in_one_batch_each_answers_as_alone(served: KvikServer) -> None:
    """Three adapters and two slots: one of them waits, and is read again."""
    names = [MODEL, "zero", "one", "two"]
    alone = {name: answer(served, name) for name in names}
    assert len({text for text, _ in alone.values()}) == 4, "adapters that change nothing would make the test weak"
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda name: answer(served, name), names * 3))
    assert together == [alone[name] for name in names * 3]


def test_adapters_share_no_prefixes(served: KvikServer) -> None:
    long = "Once upon a time there was a princess who lived in a castle with her seven cats. " * 3
    seen: dict[str, list[Any]] = {}
    with served.client() as client:
        for name in (MODEL, "zero", "one") * 2:
            made = client.completions.create(model=name, prompt=long, max_tokens=4, temperature=0, logprobs=1)
            seen.setdefault(name, []).append(made.choices[0].logprobs)
    assert all(first == second for first, second in seen.values())
    assert served.metric("vllm:prefix_cache_hits_total") > 0


@pytest.fixture
def client(served: KvikServer) -> Iterator[OpenAI]:
    with served.client() as client:
        yield client


def test_reload_in_place_and_unload_while_a_request_runs(
    served: KvikServer, client: OpenAI, folders: list[Path]
) -> None:
    stream = client.completions.create(
        model="zero", prompt=PROMPT, max_tokens=100, temperature=0, stream=True, extra_body={"ignore_eos": True}
    )
    pieces = [next(iter(stream)).choices[0].text]
    before = answer(served, "one")
    body = {"lora_name": "zero", "lora_path": str(folders[1]), "load_inplace": True}
    assert served.request("POST", "/v1/load_lora_adapter", body)[0] == 200
    assert answer(served, "zero") == (before[0], before[1]), "the name stands for the other adapter now"
    assert served.request("POST", "/v1/unload_lora_adapter", {"lora_name": "zero"})[0] == 200
    with pytest.raises(NotFoundError):
        answer(served, "zero")
    pieces += [chunk.choices[0].text for chunk in stream]
    body = {"lora_name": "zero", "lora_path": str(folders[0])}
    assert served.request("POST", "/v1/load_lora_adapter", body)[0] == 200
    assert answer(served, "zero", 100)[0] == "".join(pieces), "the stream went on with the adapter that it began with"


def test_what_cannot_be_loaded_is_said(served: KvikServer, folders: list[Path]) -> None:
    def refusal(path: Path, status: int) -> str:
        found, body, _ = served.request("POST", "/v1/load_lora_adapter", {"lora_name": "x", "lora_path": str(path)})
        assert found == status, body
        return str(body["error"]["message"])

    assert "rank 32, above --max-lora-rank 16; start with --max-lora-rank 32" in refusal(folders[3], 400)
    assert "no LoRA adapter" in refusal(folders[0] / "nowhere", 404)


def test_the_metric_names_those_in_use(served: KvikServer) -> None:
    answer(served, "one")
    line = 'vllm:lora_requests_info{max_lora="2",running_lora_adapters="",waiting_lora_adapters=""}'
    assert eventually(lambda: line in served.request("GET", "/metrics")[1])
