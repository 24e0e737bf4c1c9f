"""Next-token distributions of the default model, quantised, stay near those of its bf16 weights.

A short piece of text only; `python -m bench.accuracy` measures 5,000 tokens. The default model is stored as Q4_1, so
its bf16 weights lie on a grid of 4 bits, which flatters int4: what is held here is that nothing is lost on the way.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.accuracy import load, log_probabilities, pieces_of_text, score
from kvik.layers.formats import FormatOf, asked_formats
from kvik.modelfile import embedded_model_path

NUM_TOKENS = 256
Reference = tuple[list[list[int]], list[torch.Tensor]]


@pytest.fixture(scope="module")
def reference() -> Reference:
    path = embedded_model_path()
    pieces = pieces_of_text(path, NUM_TOKENS)
    return pieces, list(log_probabilities(load(path, lambda _name, _k: "bf16"), pieces))


@pytest.mark.parametrize(
    ("format_of", "bar"),
    [(asked_formats("int8", "bf16"), 0.002), (asked_formats("int4", "bf16"), 0.05), (None, 0.002)],
    ids=["int8", "int4", "Q4_1 as it is stored"],
)
def test_mean_kl_from_bf16(reference: Reference, format_of: FormatOf | None, bar: float) -> None:
    pieces, expected = reference
    assert sum(map(len, pieces)) == NUM_TOKENS
    result = score(load(embedded_model_path(), format_of), expected, pieces)
    assert 0 < result.mean_kl < bar
