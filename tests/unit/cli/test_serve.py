from __future__ import annotations

import logging
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from kvik.cli.main import guarded
from kvik.cli.serve import non_default_args, run, run_api_server, serve_values
from kvik.config import EngineConfig
from kvik.config.catalog import serve_flags
from kvik.config.frontend import ServerConfig
from kvik.config.parser import Parser
from kvik.errors import ConfigError, NotSupportedYetError

FLAGS = serve_flags()


def values_of(line: str) -> tuple[dict[str, Any], list[str]]:
    parsed = Parser(FLAGS).parse(line.split())
    return serve_values(parsed, FLAGS), parsed.warnings


def test_the_command_that_people_know() -> None:
    values, warnings = values_of(
        "--model DIR --served-model-name NAME --host 0.0.0.0 --port 6578 --gpu-memory-utilization 0.90 "
        "--max-model-len 10000"
    )
    assert warnings == []
    assert values == {
        "model": "DIR", "served_model_name": ("NAME",), "host": "0.0.0.0", "port": 6578,
        "gpu_memory_utilization": 0.9, "max_model_len": 10000,
    }  # fmt: skip


def test_a_positional_model_wins_with_a_warning() -> None:
    values, warnings = values_of("a --model b")
    assert values["model_tag"] == "a"
    assert warnings == ["--model b gives way to the MODEL a"]


def test_two_models_are_too_many() -> None:
    with pytest.raises(ConfigError, match="one MODEL, please; got a, b"):
        values_of("a b")


def test_the_command_line_wins_over_the_config_file(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("port: 1\nhost: h\nmodel: m\n")
    values, _ = values_of(f"--config {file} --port 2")
    assert values == {"port": 2, "host": "h", "model": "m"}


def test_what_a_config_file_asks_for_is_not_ignored_either(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("pipeline-parallel-size: 2\n")
    with pytest.raises(NotSupportedYetError, match="--pipeline-parallel-size"):
        values_of(f"--config {file}")


def test_the_log_shows_what_differs_and_no_secret() -> None:
    values, _ = values_of("--api-key secret --port 8000 --max-num-seqs 4")
    assert non_default_args(values, FLAGS) == {"api_key": "***", "max_num_seqs": 4}


def test_a_mistake_shows_the_usage_and_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(run, ["--prt", "1"]) == 2
    assert capsys.readouterr().err == (
        "usage: kvik serve [MODEL] [flags]\nkvik: error: unknown flag --prt; did you mean --port?\n"
    )


def test_a_missing_model_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(run, ["/no/such/model"]) == 1
    assert "kvik: error: no such model: /no/such/model" in capsys.readouterr().err


def test_help_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help=CacheConfig"]) == 0
    assert "--block-size" in capsys.readouterr().out


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[EngineConfig, ServerConfig]]:
    """What the launcher, faked here, was called with."""
    calls: list[tuple[EngineConfig, ServerConfig]] = []
    launcher = types.ModuleType("kvik.server.launcher")
    launcher.run_server = lambda engine, server, earlier: calls.append((engine, server))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kvik.server.launcher", launcher)
    monkeypatch.setattr("kvik.telemetry.log.configure_logging", lambda *args: None)
    return calls


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(
        '{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32, "hidden_size": 8, '
        '"intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, '
        '"max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "torch_dtype": "bfloat16", '
        '"hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": true}'
    )
    (tmp_path / "generation_config.json").write_text('{"temperature": 0.6}')
    return tmp_path


def test_flags_reach_the_server(
    model: Path, served: list[tuple[EngineConfig, ServerConfig]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="kvik")
    assert run([str(model), "--port", "1234", "--max-model-len", "32"]) == 0
    ((engine, server),) = served
    assert engine.model.model == str(model)
    assert engine.model.max_model_len == 32
    assert (server.port, server.default_sampling_params) == (1234, {"temperature": 0.6})
    assert f"non-default args: {{'model_tag': {str(model)!r}, 'port': 1234, 'max_model_len': 32}}" in caplog.messages


def test_only_kvik_serve_warns_of_the_model_flag(
    model: Path, served: list[tuple[EngineConfig, ServerConfig]], caplog: pytest.LogCaptureFixture
) -> None:
    run_api_server(["--model", str(model)])
    assert "--model" not in caplog.text
    run(["--model", str(model)])
    assert "name the model without a flag" in caplog.text
    assert served[0] == served[1]
