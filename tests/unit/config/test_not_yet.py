from __future__ import annotations

from typing import Any

import pytest

from kvik.config.catalog import serve_flags
from kvik.config.not_yet import NOT_YET, refuse_unsupported
from kvik.errors import ConfigError, NotSupportedYetError

FLAGS = serve_flags()


@pytest.mark.parametrize(
    ("dest", "value"),
    [
        ("pipeline_parallel_size", 2),
        ("fully_sharded_loras", True),
        ("limit_mm_per_prompt", {"image": 1}),
        ("swa_bounded_replay", False),
        ("runner", "pooling"),
        ("hf_token", "secret"),
    ],
)
def test_what_kvik_does_not_have_is_refused(dest: str, value: Any) -> None:
    with pytest.raises(NotSupportedYetError) as caught:
        refuse_unsupported({dest: value, "port": 1}, FLAGS)
    assert str(caught.value) == f"not supported yet: --{dest.replace('_', '-')}"
    assert isinstance(caught.value, ConfigError)


@pytest.mark.parametrize(
    ("dest", "value"),
    [
        ("pipeline_parallel_size", 1),
        ("limit_mm_per_prompt", {"image": 0, "video": 0}),
        ("kernel_config", {}),
        ("language_model_only", True),
        ("data_parallel_size_local", 1),
        ("ignore_patterns", ("original/**/*",)),
    ],
)
def test_what_is_so_anyway_is_accepted(dest: str, value: Any) -> None:
    refuse_unsupported({dest: value}, FLAGS)


def test_all_of_them_are_named_at_once() -> None:
    with pytest.raises(NotSupportedYetError, match="--headless, --pipeline-parallel-size"):
        refuse_unsupported({"pipeline_parallel_size": 2, "headless": True}, FLAGS)


def test_every_default_is_accepted() -> None:
    refuse_unsupported({f.dest: f.default for f in NOT_YET}, FLAGS)
