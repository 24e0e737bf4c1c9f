from __future__ import annotations

import pytest

from kvik.config.args import EngineArgs
from kvik.errors import ConfigError, NotSupportedYetError


def test_keywords_are_flags_with_underscores() -> None:
    args = EngineArgs.from_kwargs(
        model="m", max_model_len="8k", served_model_name=["a", "b"], seed=3, enable_prefix_caching=False,
        pipeline_parallel_size=1, disable_log_stats=True,
    )  # fmt: skip
    assert args == EngineArgs(
        model="m", max_model_len=8000, served_model_name=("a", "b"), seed=3, enable_prefix_caching=False,
        disable_log_stats=True,
    )  # fmt: skip
    assert EngineArgs.from_kwargs(served_model_name="a", max_model_len="auto").max_model_len == -1


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="unknown argument max_modl_len; did you mean max_model_len"):
        EngineArgs.from_kwargs(max_modl_len=1)
    with pytest.raises(NotSupportedYetError, match="not supported yet: --pipeline-parallel-size"):
        EngineArgs.from_kwargs(pipeline_parallel_size=2)
    with pytest.raises(ConfigError, match="--dtype takes one of"):
        EngineArgs.from_kwargs(dtype="int8")
