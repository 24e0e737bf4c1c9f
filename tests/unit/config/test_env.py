from __future__ import annotations

import pytest

from kvik.config import env
from kvik.errors import ConfigError


def test_both_prefixes_are_read_and_ours_wins() -> None:
    assert env.api_key({"VLLM_API_KEY": "theirs"}) == "theirs"
    assert env.api_key({"VLLM_API_KEY": "theirs", "KVIK_API_KEY": "ours"}) == "ours"
    assert env.api_key({"KVIK_API_KEY": ""}) is None


def test_cache_space_is_in_gib() -> None:
    assert env.cpu_kvcache_bytes({"VLLM_CPU_KVCACHE_SPACE": "4"}) == 4 * 2**30
    assert env.cpu_kvcache_bytes({"KVIK_CPU_KVCACHE_SPACE": "0.5"}) == 2**29
    assert env.cpu_kvcache_bytes({}) is None


@pytest.mark.parametrize("text", ["x", "0", "-1", "inf", "nan"])
def test_bad_cache_space_names_the_variable(text: str) -> None:
    with pytest.raises(ConfigError, match=r"KVIK_CPU_KVCACHE_SPACE takes GiB"):
        env.cpu_kvcache_bytes({"KVIK_CPU_KVCACHE_SPACE": text})


@pytest.mark.parametrize(("text", "value"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_long_max_model_len(text: str, value: bool) -> None:
    assert env.allows_long_max_model_len({"VLLM_ALLOW_LONG_MAX_MODEL_LEN": text}) is value


def test_a_bad_yes_or_no_is_named() -> None:
    with pytest.raises(ConfigError, match="takes 0 or 1"):
        env.allows_long_max_model_len({"KVIK_ALLOW_LONG_MAX_MODEL_LEN": "maybe"})


@pytest.mark.parametrize(("text", "seconds"), [("2.5", 2.5), ("0", 10.0), ("-3", 10.0), ("", 10.0)])
def test_log_interval(text: str, seconds: float) -> None:
    assert env.log_stats_interval_s({"KVIK_LOG_STATS_INTERVAL": text}) == seconds


def test_logging_level() -> None:
    assert env.logging_level({"VLLM_LOGGING_LEVEL": "debug"}) == "DEBUG"
    with pytest.raises(ConfigError, match="VLLM_LOGGING_LEVEL takes CRITICAL"):
        env.logging_level({"VLLM_LOGGING_LEVEL": "loud"})
