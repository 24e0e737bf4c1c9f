from __future__ import annotations

from typing import Any

import pytest

from kvik.config.compilation import CompilationConfig, compilation_config_of, default_capture_sizes
from kvik.errors import ConfigError


def config_of(asked: dict[str, Any] | None = None, **flags: Any) -> CompilationConfig:
    return compilation_config_of(asked, **({"max_num_seqs": 8, "max_num_batched_tokens": 64} | flags))


@pytest.mark.parametrize(
    ("level", "mode", "graphs", "in_background"),
    [
        ("0", "NONE", "NONE", False),
        ("1", "NONE", "PIECEWISE", False),
        ("2", "NONE", "FULL_AND_PIECEWISE", False),
        ("3", "VLLM_COMPILE", "FULL_AND_PIECEWISE", True),
    ],
)
def test_levels(level: str, mode: str, graphs: str, in_background: bool) -> None:
    config = config_of(level=level)
    assert (config.mode, config.cudagraph_mode, config.is_in_background) == (mode, graphs, in_background)


def test_the_default_compiles_nothing() -> None:
    config = config_of()
    assert (config.level, config.compiles) == (2, False)
    assert config.cudagraph_capture_sizes == (1, 2, 4, 8, 16)
    assert config.max_cudagraph_capture_size == 16


def test_default_sizes_end_at_the_largest_of_the_original() -> None:
    sizes = default_capture_sizes(512)
    assert (len(sizes), sizes[:6], sizes[-2:]) == (51, (1, 2, 4, 8, 16, 24), (496, 512))
    assert config_of(max_num_seqs=1024, max_num_batched_tokens=8192).max_cudagraph_capture_size == 512


def test_eager_is_level_0() -> None:
    config = config_of(enforce_eager=True)
    assert (config.level, config.mode, config.cudagraph_mode) == (0, "NONE", "NONE")
    assert (config.cudagraph_capture_sizes, config.max_cudagraph_capture_size) == ((), 0)


@pytest.mark.parametrize("asked", [3, "VLLM_COMPILE", "vllm_compile"])
def test_a_mode_at_a_lower_level_is_compiled_before_the_engine_is_ready(asked: Any) -> None:
    config = config_of({"mode": asked})
    assert (config.mode, config.splitting_ops, config.is_in_background) == ("VLLM_COMPILE", ("kvik::attention",), False)
    assert config_of({"mode": asked}, level="3").is_in_background


def test_splitting() -> None:
    assert config_of({"mode": 3, "splitting_ops": []}).splitting_ops == ()
    split = config_of({"splitting_ops": ["kvik::attention"]}, level="3")
    assert (split.mode, split.splitting_ops) == ("VLLM_COMPILE", ("kvik::attention",))
    assert config_of({"splitting_ops": []}, level="3").mode == "DYNAMO_TRACE_ONCE"


def test_sizes_are_sorted_and_may_come_by_flag_or_key() -> None:
    for config in (
        config_of({"cudagraph_capture_sizes": [8, 1, 8]}),
        config_of(capture_sizes=(8, 1, 8)),
        config_of({"cudagraph_capture_sizes": [8, 1, 8], "max_cudagraph_capture_size": 8}, capture_sizes=(8, 1, 8)),
    ):
        assert config.cudagraph_capture_sizes == (1, 8)
    assert config_of(max_capture_size=5).cudagraph_capture_sizes == (1, 2, 4, 5)


def test_compile_sizes_may_name_the_captured_ones() -> None:
    config = config_of({"compile_sizes": ["cudagraph_capture_sizes", 3], "mode": 2}, capture_sizes=(1, 8))
    assert config.compile_sizes == (1, 3, 8)


def test_all_keys() -> None:
    asked = {
        "mode": "DYNAMO_TRACE_ONCE", "backend": "eager", "cache_dir": "/a", "cudagraph_mode": "full_decode_only",
        "inductor_compile_config": {"max_autotune": True}, "compile_sizes": [2], "cudagraph_capture_sizes": [4],
        "custom_ops": [], "pass_config": {}, "debug_dump_path": None,
    }  # fmt: skip
    assert config_of(asked, level="1") == CompilationConfig(
        level=1, mode="DYNAMO_TRACE_ONCE", backend="eager", compile_sizes=(2,),
        inductor_compile_config={"max_autotune": True}, cache_dir="/a", cudagraph_mode="FULL_DECODE_ONLY",
        cudagraph_capture_sizes=(4,),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "flags", "message"),
    [
        ([], {}, "takes a JSON object"),
        ({"modes": 1}, {}, "unknown key 'modes'; did you mean 'mode'"),
        ({"zzz": 1}, {}, "unknown key 'zzz'; it takes mode, backend"),
        ({"mode": 4}, {}, "'mode' takes NONE, .* or VLLM_COMPILE or 0 to 3, got 4"),
        ({"mode": True}, {}, "got True"),
        ({"mode": 1}, {}, "STOCK_TORCH_COMPILE; it compiles anew for new shapes; take DYNAMO_TRACE_ONCE"),
        ({"backend": "tvm"}, {}, "'backend' takes inductor or eager, got 'tvm'"),
        ({"custom_ops": ["+rms_norm"]}, {}, "'custom_ops' has no meaning in kvik .*leave it out"),
        ({"pass_config": {"fuse_norm_quant": True}}, {}, "'pass_config' has no meaning"),
        ({"splitting_ops": ["aten::mm"]}, {"level": "3"}, "'splitting_ops' takes"),
        ({"splitting_ops": ["kvik::attention"]}, {}, "'splitting_ops' needs 'mode' VLLM_COMPILE, which is NONE"),
        ({"cudagraph_mode": "SOME"}, {}, "'cudagraph_mode' takes NONE, PIECEWISE"),
        ({"cudagraph_capture_sizes": []}, {}, "takes a list of numbers from 1, got"),
        ({"cudagraph_capture_sizes": [0]}, {}, "takes a list of numbers from 1, got"),
        ({"cudagraph_capture_sizes": [65]}, {}, "no step is longer than --max-num-batched-tokens 64"),
        ({"cudagraph_capture_sizes": [4], "max_cudagraph_capture_size": 8}, {}, "drop the former"),
        ({"cudagraph_capture_sizes": [4]}, {"capture_sizes": (8,)}, "but --cudagraph-capture-sizes is .*drop one"),
        ({"max_cudagraph_capture_size": 0}, {}, "takes 1 or more, got 0"),
        ({"compile_sizes": [65]}, {}, "'compile_sizes' takes a list of numbers of tokens from 1 to"),
        ({"compile_sizes": ["all"]}, {}, "'compile_sizes' takes"),
        ({"cache_dir": 1}, {}, "'cache_dir' takes a folder"),
        ({"inductor_compile_config": []}, {}, "'inductor_compile_config' takes a JSON object"),
        ({"mode": 3}, {"enforce_eager": True}, "--enforce-eager asks for none: drop one"),
        ({"cudagraph_mode": "FULL"}, {"enforce_eager": True}, "--enforce-eager asks for none: drop one"),
        ({}, {"enforce_eager": True, "level": "3"}, "compiles nothing, but -O3 compiles: drop one"),
        ({}, {"level": "4"}, "--optimization-level: takes 0, 1, 2 or 3, got '4'"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(asked: Any, flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_of(asked, **flags)
