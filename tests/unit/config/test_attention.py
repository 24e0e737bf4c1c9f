"""--attention-backend and --attention-config."""

from __future__ import annotations

from typing import Any

import pytest

from kvik.config.attention import BACKENDS, AttentionConfig, attention_config_of
from kvik.errors import ConfigError, NotSupportedYetError


@pytest.mark.parametrize("name", BACKENDS)
def test_either_flag_names_the_backend(name: str) -> None:
    assert attention_config_of(name, {}) == AttentionConfig(name)
    assert attention_config_of(None, {"backend": name}) == AttentionConfig(name)
    assert attention_config_of(name, {"backend": name}) == AttentionConfig(name)


@pytest.mark.parametrize("nothing", [None, {}, {"backend": None}])
def test_nothing_asked(nothing: Any) -> None:
    assert attention_config_of(None, nothing) == AttentionConfig()


@pytest.mark.parametrize(
    ("backend", "asked", "message"),
    [
        ("TRITON_ATTN", {"backend": "FLASHINFER"}, "TRITON_ATTN and 'backend': 'FLASHINFER' .* disagree"),
        ("FLEX_ATTENTION", {}, "not supported yet: --attention-backend FLEX_ATTENTION; .* TRITON_ATTN, FLASH_ATTN"),
        ("triton", {}, "--attention-backend triton; the attention backends here are"),
        (None, {"backend": "FLASHMLA"}, "--attention-config with backend 'FLASHMLA'"),
        (None, {"backend": 3}, "--attention-config with backend 3"),
        (None, {"flash_attn_version": 3}, "--attention-config with 'flash_attn_version'; it takes 'backend'"),
        (None, ["backend"], "takes a JSON object"),
    ],
)
def test_says_what_cannot_be(backend: str | None, asked: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        attention_config_of(backend, asked)


def test_what_others_have_is_not_supported_yet() -> None:
    with pytest.raises(NotSupportedYetError):
        attention_config_of("FLASHMLA", None)
