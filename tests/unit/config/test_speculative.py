from __future__ import annotations

from typing import Any

import pytest

from kvik.config.speculative import SpeculativeConfig, speculative_config_of
from kvik.errors import ConfigError


def test_nothing_asked_for() -> None:
    assert speculative_config_of(None) is None
    assert speculative_config_of({}) is None


def test_ngram() -> None:
    asked = {"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 4, "prompt_lookup_min": 2}
    assert speculative_config_of(asked) == SpeculativeConfig("ngram", 5, prompt_lookup_min=2, prompt_lookup_max=4)


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [({}, (5, 5)), ({"prompt_lookup_max": 3}, (3, 3)), ({"prompt_lookup_min": 2, "prompt_lookup_max": None}, (2, 2))],
)
def test_one_length_sets_the_other(lengths: dict[str, Any], expected: tuple[int, int]) -> None:
    config = speculative_config_of({"method": "ngram", "num_speculative_tokens": 1, **lengths})
    assert config is not None
    assert (config.prompt_lookup_min, config.prompt_lookup_max) == expected


def test_suffix() -> None:
    assert speculative_config_of({"method": "suffix"}) == SpeculativeConfig("suffix", 24)
    asked = {
        "method": "suffix", "num_speculative_tokens": 8, "suffix_decoding_max_tree_depth": 12,
        "suffix_decoding_max_cached_requests": 0, "suffix_decoding_max_spec_factor": 2,
        "suffix_decoding_min_token_prob": 0.25,
    }  # fmt: skip
    expected = SpeculativeConfig(
        "suffix", 8, suffix_decoding_max_tree_depth=12, suffix_decoding_max_cached_requests=0,
        suffix_decoding_max_spec_factor=2, suffix_decoding_min_token_prob=0.25,
    )  # fmt: skip
    assert speculative_config_of(asked) == expected


def test_the_short_flags() -> None:
    assert speculative_config_of(None, "suffix", 6) == SpeculativeConfig("suffix", 6)
    config = speculative_config_of({"prompt_lookup_max": 3}, "ngram", 2)
    assert config == SpeculativeConfig("ngram", 2, prompt_lookup_min=3, prompt_lookup_max=3)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([1], "takes a JSON object"),
        ({"method": "eagle"}, "'method' takes ngram or suffix .*, got 'eagle'"),
        ({"method": ["ngram"]}, "'method' takes ngram or suffix"),
        ({"num_speculative_tokens": 5}, "got None"),
        ({"method": "ngram"}, "needs 'num_speculative_tokens', such as 5"),
        ({"method": "ngram", "num_speculative_tokens": 0}, "an integer from 1 to 256, got 0"),
        ({"method": "ngram", "num_speculative_tokens": 300}, "an integer from 1 to 256, got 300"),
        ({"method": "ngram", "num_speculative_tokens": 2.5}, "an integer from 1 to 256, got 2.5"),
        ({"method": "ngram", "num_speculative_tokens": True}, "an integer"),
        ({"method": "ngram", "num_speculative_tokens": "5"}, "an integer from 1 to 256, got '5'"),
        ({"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_min": 0}, "'prompt_lookup_min' takes"),
        (
            {"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_min": 4, "prompt_lookup_max": 2},
            "'prompt_lookup_min' is 4, above 'prompt_lookup_max', which is 2",
        ),
        ({"method": "ngram", "num_speculative_tokens": 5, "model": "x"}, "'model' is about draft models"),
        ({"method": "ngram", "num_speculative_tokens": 5, "promt_lookup_max": 2}, "did you mean 'prompt_lookup_max'"),
        (
            {"method": "ngram", "num_speculative_tokens": 5, "zzz": 2},
            "unknown key 'zzz'; method 'ngram' takes num_spec",
        ),
        (
            {"method": "ngram", "num_speculative_tokens": 5, "suffix_decoding_min_token_prob": 0.1},
            "'suffix_decoding_min_token_prob' does not go with method 'ngram'",
        ),
        ({"method": "suffix", "prompt_lookup_max": 4}, "does not go with method 'suffix'"),
        ({"method": "suffix", "suffix_decoding_min_token_prob": 1.5}, "a number from 0 to 1, got 1.5"),
        ({"method": "suffix", "suffix_decoding_min_token_prob": float("nan")}, "a number from 0 to 1, got nan"),
        ({"method": "suffix", "suffix_decoding_max_tree_depth": 1}, "an integer from 2 to 1024, got 1"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(asked: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=r"^--speculative-config: .*" + words):
        speculative_config_of(asked)


def test_two_flags_that_disagree() -> None:
    with pytest.raises(ConfigError, match="'method' is 'ngram', but --spec-method is 'suffix': drop one"):
        speculative_config_of({"method": "ngram", "num_speculative_tokens": 5}, "suffix")
