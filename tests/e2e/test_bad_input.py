"""What a client or an operator can get wrong, and the answer that says what would be right."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from support.server import MODEL, KvikServer, free_port

CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}


def test_an_unknown_model_is_a_404_that_lists_what_is_served(server: KvikServer) -> None:
    status, body, _ = server.request("POST", "/v1/chat/completions", {**CHAT, "model": "gpt-9"})
    assert status == 404
    assert body["error"]["param"] == "model"
    assert MODEL in body["error"]["message"]


def test_a_prompt_that_is_too_long_says_both_counts(server: KvikServer) -> None:
    status, body, _ = server.request("POST", "/v1/completions", {"model": MODEL, "prompt": [5] * 9000})
    assert status == 400
    assert "9000" in body["error"]["message"]
    assert "8192" in body["error"]["message"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 3), ("temperature", "hot"), ("temperature", -0.1), ("top_p", 0), ("top_p", 1.5), ("top_k", -2),
        ("min_p", 2), ("n", 0), ("n", "two"), ("max_tokens", 0), ("max_tokens", -1), ("seed", "x"), ("stop", [""]),
        ("stop", ["a", "b", "c", "d", "e"]), ("presence_penalty", 3), ("frequency_penalty", -3),
        ("repetition_penalty", 0), ("logit_bias", {"abc": 1}), ("logit_bias", {"999999": 1}),
        ("allowed_token_ids", []), ("allowed_token_ids", [10**9]), ("min_tokens", 5), ("top_logprobs", 21),
        ("messages", "hello"), ("messages", []), ("stream", "maybe"), ("stream_options", {"include_usage": True}),
        ("stop_token_ids", [-1]), ("bad_words", [""]), ("tools", []), ("response_format", {"type": "json_schema"}),
        ("prompt_logprobs", -2), ("cache_salt", ""), ("priority", "high"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_a_400_that_names_the_field(server: KvikServer, field: str, value: object) -> None:
    status, body, _ = server.request("POST", "/v1/chat/completions", {**CHAT, field: value})
    assert status == 400, body
    assert field in (body["error"]["param"] or "") or field in body["error"]["message"]
    assert body["error"]["code"] == 400


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"model":', b"\xff\xfe", b'{"messages":' + b"[" * 5000])
def test_broken_json_is_a_400(server: KvikServer, body: bytes) -> None:
    assert server.request("POST", "/v1/chat/completions", body)[0] == 400


def test_unknown_routes_and_methods_have_an_error_body(server: KvikServer) -> None:
    status, body, _ = server.request("GET", "/v1/nothing")
    assert (status, body["error"]["code"]) == (404, 404)
    status, body, headers = server.request("GET", "/v1/chat/completions")
    assert (status, body["error"]["code"]) == (405, 405)
    assert "POST" in headers["allow"]


def test_unknown_fields_are_ignored(server: KvikServer) -> None:
    assert server.request("POST", "/v1/chat/completions", {**CHAT, "no_such_field": 1})[0] == 200


# --- at the start ------------------------------------------------------------------------------------


def serve(*flags: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A start that is expected to fail, as a user sees it."""
    command = [sys.executable, "-m", "kvik", "serve", *flags, "--host", "127.0.0.1"]
    if "--port" not in flags:
        command += ["--port", str(free_port())]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **env}, check=False)


def assert_one_clear_error(run: subprocess.CompletedProcess[str], *words: str) -> None:
    assert run.returncode in (1, 2), run.stderr
    assert "Traceback" not in run.stderr
    for word in words:
        assert word in run.stderr


def test_no_model_at_the_path() -> None:
    assert_one_clear_error(serve("/no/such/model"), "/no/such/model")


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    assert_one_clear_error(serve(str(tmp_path)), "config.json")


def test_an_unsupported_architecture_lists_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["MambaForCausalLM"], "model_type": "mamba"}))
    assert_one_clear_error(serve(str(tmp_path)), "MambaForCausalLM", "LlamaForCausalLM", "Qwen3ForCausalLM")


def test_truncated_weights_name_the_tensor(tmp_path: Path) -> None:
    config = dict(
        architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=64, intermediate_size=64, vocab_size=64,
        num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64,
        rms_norm_eps=1e-5,
    )  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a"))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    header = json.dumps({"model.norm.weight": {"dtype": "F32", "shape": [64], "data_offsets": [0, 256]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(100))
    assert_one_clear_error(serve(str(tmp_path)), "model.norm.weight")


def test_a_taken_port_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert_one_clear_error(serve("--port", port), port)


def test_too_little_memory_says_what_would_fit() -> None:
    run = serve("--kv-cache-memory-bytes", "10M", "--max-model-len", "8192")
    assert_one_clear_error(run, "--max-model-len", "--kv-cache-memory-bytes")


def test_an_unknown_flag_suggests_the_nearest() -> None:
    run = serve("--max-model-length", "100")
    assert_one_clear_error(run, "--max-model-len")
    assert run.returncode == 2


def test_a_flag_without_its_feature_says_so() -> None:
    run = serve("--headless")
    assert_one_clear_error(run, "not supported yet: --headless")
    assert run.returncode == 2
