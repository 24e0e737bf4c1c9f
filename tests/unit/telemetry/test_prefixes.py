from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.telemetry.prefixes import parse_prefixes


@pytest.mark.parametrize(
    ("text", "prefixes"),
    [
        ("kvik:", ("kvik:",)),
        ("vllm:,kvik:", ("vllm:", "kvik:")),
        (" vllm: , vllm:", ("vllm:",)),
        ("my_llm_", ("my_llm_",)),
    ],
)
def test_prefixes(text: str, prefixes: tuple[str, ...]) -> None:
    assert parse_prefixes(text) == prefixes


@pytest.mark.parametrize("text", ["", "vllm", "1x:", "a b:", "kvik:,,vllm:", "kvik:;vllm:", "é:", ":\n"])
def test_what_cannot_begin_a_name(text: str) -> None:
    with pytest.raises(ValueError, match="cannot begin names of metrics"):
        parse_prefixes(text)


@given(st.text(max_size=12))
def test_what_is_taken_is_a_legal_beginning(text: str) -> None:
    try:
        prefixes = parse_prefixes(text)
    except ValueError:
        return
    assert prefixes
    for prefix in prefixes:
        assert prefix.isascii()
        assert not prefix[0].isdigit()
        assert prefix[-1] in ":_"
