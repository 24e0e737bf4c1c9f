"""Adapters over HTTP, in front of an engine that believes everything."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvik.config.access import AccessConfig
from kvik.config.lora import LoraConfig, LoraModule
from kvik.errors import ConfigError
from kvik.messages import LoraRequest
from support.server_without_engine import Server, make_server


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "1")
    made = make_server()
    made.llm.config = replace(made.llm.config, lora=LoraConfig())
    return made


@pytest.fixture
def folder(tmp_path: Path) -> str:
    (tmp_path / "adapter_config.json").write_text("{}")
    return str(tmp_path)


def load(server: Server, **fields: Any) -> Any:
    return server.http.post("/v1/load_lora_adapter", json=fields)


def unload(server: Server, **fields: Any) -> Any:
    return server.http.post("/v1/unload_lora_adapter", json=fields)


def error_of(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    return str(answer.json()["error"]["message"])


def test_load_list_use_unload(served: Server, folder: str) -> None:
    answer = load(served, lora_name="sql", lora_path=folder)
    assert (answer.status_code, answer.text) == (200, "Success: LoRA adapter 'sql' added successfully.")
    assert answer.headers["content-type"].startswith("text/plain")
    cards = served.http.get("/v1/models").json()["data"]
    assert [(c["id"], c["root"], c["parent"]) for c in cards] == [
        ("tiny", "/models/tiny", None), ("alias", "/models/tiny", None), ("sql", folder, "tiny"),
    ]  # fmt: skip
    assert served.http.get("/v1/models/sql").json() == cards[-1]
    assert served.chat(model="sql").json()["model"] == "sql"
    assert served.complete(model="sql").json()["model"] == "sql"
    assert served.chat(model="alias").json()["model"] == "tiny"
    assert served.chat().json()["model"] == "tiny"
    lora = LoraRequest("sql", 1, folder)
    assert [asked.lora for asked in served.llm.asked] == [lora, lora, None, None]
    assert unload(served, lora_name="sql").text == "Success: LoRA adapter 'sql' removed successfully."
    assert served.llm.loras == []
    assert "served here: tiny, alias" in error_of(served.chat(model="sql"), 404)
    assert error_of(served.http.get("/v1/models/sql"), 404)


def test_streams_carry_the_adapters_name(served: Server, folder: str) -> None:
    load(served, lora_name="sql", lora_path=folder)
    assert '"model":"sql"' in served.chat(model="sql", stream=True).text
    assert '"model":"sql"' in served.complete(model="sql", stream=True).text


def test_in_place_a_name_gets_another_adapter(served: Server, folder: str) -> None:
    load(served, lora_name="sql", lora_path=folder)
    assert "is loaded already" in error_of(load(served, lora_name="sql", lora_path=folder), 400)
    assert load(served, lora_name="sql", lora_path=folder, load_inplace=True).status_code == 200
    assert served.llm.loras == [LoraRequest("sql", 2, folder)], "a load of its own: what was cached is not taken for it"
    served.llm.lora_problem = "rank 99"
    assert "rank 99" in error_of(load(served, lora_name="sql", lora_path=folder, load_inplace=True), 400)
    served.chat(model="sql")
    assert served.llm.asked[-1].lora == LoraRequest("sql", 2, folder), "the one before goes on"


def test_a_replaced_adapter_has_another_fingerprint(served: Server, folder: str) -> None:
    load(served, lora_name="sql", lora_path=folder)
    prints = [served.chat(model=name).json()["system_fingerprint"] for name in ("tiny", "sql", "sql")]
    load(served, lora_name="sql", lora_path=folder, load_inplace=True)
    prints.append(served.complete(model="sql").json()["system_fingerprint"])
    assert prints[1] == prints[2]
    assert len(set(prints)) == 3


def test_what_is_wrong_with_a_load(served: Server, folder: str) -> None:
    assert "no LoRA adapter in" in error_of(load(served, lora_name="a", lora_path=folder + "/nowhere"), 404)
    assert "no LoRA adapter in" in error_of(load(served, lora_name="a", lora_path="x" * 4096), 404)
    assert "is the name of the model itself" in error_of(load(served, lora_name="alias", lora_path=folder), 400)
    assert "lora_path" in error_of(load(served, lora_name="a"), 400)
    assert "lora_name" in error_of(load(served, lora_path=folder), 400)
    assert "printable" in error_of(load(served, lora_name="", lora_path=folder), 400)
    assert "printable" in error_of(load(served, lora_name="a\nb", lora_path=folder), 400)
    assert "lora_path must" in error_of(load(served, lora_name="a", lora_path="x\0"), 400)
    assert "is_3d" in error_of(load(served, lora_name="a", lora_path=folder, is_3d_lora_weight=True), 400)
    served.llm.lora_problem = "k_proj has rank 99, above --max-lora-rank 16"
    assert "k_proj has rank 99" in error_of(load(served, lora_name="a", lora_path=folder), 400)
    assert len(served.http.get("/v1/models").json()["data"]) == 2


def test_what_is_wrong_with_an_unload(served: Server, folder: str) -> None:
    assert "no adapter 'a' is loaded; loaded are: none" in error_of(unload(served, lora_name="a"), 404)
    assert error_of(unload(served), 400)
    load(served, lora_name="a", lora_path=folder)
    assert "loaded are: a" in error_of(unload(served, lora_name="a", lora_int_id=7), 404)
    assert unload(served, lora_name="a", lora_int_id=1).status_code == 200


def test_without_room_for_adapters_the_flag_is_named(served: Server, folder: str) -> None:
    served.llm.config = replace(served.llm.config, lora=None)
    assert "--enable-lora" in error_of(load(served, lora_name="a", lora_path=folder), 400)


def test_without_the_variable_there_are_no_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_ALLOW_RUNTIME_LORA_UPDATING", raising=False)
    assert load(make_server(), lora_name="a", lora_path="b").status_code == 404


def test_the_modules_of_the_start(served: Server, folder: str) -> None:
    asyncio.run(served.state.adapters.load_modules([LoraModule("a", folder), LoraModule("b", folder, "base")]))
    assert [c["parent"] for c in served.http.get("/v1/models").json()["data"]] == [None, None, "tiny", "base"]
    with pytest.raises(ConfigError, match=r"--lora-modules c=/nowhere: there is no LoRA adapter"):
        asyncio.run(served.state.adapters.load_modules([LoraModule("c", "/nowhere")]))


def test_clients_load_only_from_allowed_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KVIK_ALLOW_RUNTIME_LORA_UPDATING", "1")
    for name in ("allowed/sql", "other"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "adapter_config.json").write_text("{}")
    served = make_server(access=AccessConfig(allowed_lora_path=(str(tmp_path / "allowed"),)))
    served.llm.config = replace(served.llm.config, lora=LoraConfig())
    for path in (tmp_path / "other", tmp_path / "none", tmp_path / "allowed" / ".." / "other"):
        assert "--allowed-lora-path" in error_of(load(served, lora_name="x", lora_path=str(path)), 400)
    assert load(served, lora_name="sql", lora_path=str(tmp_path / "allowed" / "sql")).status_code == 200
    assert [lora.lora_path for lora in served.llm.loras] == [str(tmp_path / "allowed" / "sql")]
