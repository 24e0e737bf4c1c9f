from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from kvik.compilation.compiled_pass import CompiledPass
from kvik.config.compilation import ATTENTION_OP, CompilationConfig
from kvik.errors import ConfigError
from kvik.runner.compile_choice import compiled_for_graphs, with_compilation
from support.tiny_models import TinyModel

SPLIT = CompilationConfig(mode="VLLM_COMPILE", splitting_ops=(ATTENTION_OP,), backend="eager")


def test_nothing_asked_for_is_nothing_done() -> None:
    model = TinyModel.of().model
    config = CompilationConfig()
    assert with_compilation(config, model, model, 64, []) is model
    assert compiled_for_graphs(config, model) is model


def test_compiled_before_ready(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny = TinyModel.of()
    config = CompilationConfig(mode="DYNAMO_TRACE_ONCE", backend="eager", cache_dir=str(tmp_path))
    with caplog.at_level(logging.INFO):
        forward = with_compilation(config, tiny.model, tiny.model, 64, [])
    assert isinstance(forward, CompiledPass)
    assert f"Using cache directory: {tmp_path}" in caplog.text
    assert "1 graphs" in caplog.text
    batch, other = tiny.batches(3, 4)
    torch.testing.assert_close(forward.forward(batch), tiny.model.forward(other), rtol=1e-3, atol=2e-4)


def test_a_failure_before_ready_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    model = TinyModel.of().model
    config = CompilationConfig(mode="DYNAMO_TRACE_ONCE", backend="eager", cache_dir=str(tmp_path / "file"))
    assert with_compilation(config, model, model, 64, []) is model
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "torch.compile failed, so steps are computed as before: FileExistsError" in warnings[0]


def test_options_are_checked_before_the_background() -> None:
    config = CompilationConfig(mode="VLLM_COMPILE", is_in_background=True, inductor_compile_config={"no_such": 1})
    model = TinyModel.of().model
    with pytest.raises(ConfigError, match="'no_such', which inductor has not"):
        with_compilation(config, model, model, 64, [])


def test_graphs_of_pieces_need_pieces() -> None:
    config = CompilationConfig(mode="DYNAMO_TRACE_ONCE", cudagraph_mode="FULL_AND_PIECEWISE")
    with pytest.raises(ConfigError, match="take 'mode' VLLM_COMPILE, or 'cudagraph_mode' FULL_DECODE_ONLY"):
        compiled_for_graphs(config, TinyModel.of().model)


def test_graphs_before_ready_are_not_of_what_is_compiled_in_the_background() -> None:
    model = TinyModel.of().model
    config = CompilationConfig(mode="VLLM_COMPILE", splitting_ops=(ATTENTION_OP,), is_in_background=True)
    assert compiled_for_graphs(config, model) is model
