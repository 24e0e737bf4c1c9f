"""Checkpoint to memory: formats, shards, and what is said when they do not fit."""

from __future__ import annotations

import logging
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from kvik.errors import ModelFileError
from kvik.kernels.dequantize import dequantize
from kvik.kernels.quantize import quantize
from kvik.layers.formats import asked_formats, float_format, stored_formats
from kvik.layers.load import load_parameters
from kvik.layers.parameters import ParameterTable
from kvik.weights import RawTensor


def table(dtype: torch.dtype = torch.float32) -> ParameterTable:
    floats = float_format(dtype, is_exact=True)
    return ParameterTable("TestForCausalLM", dtype, format_of=lambda _name, _k: floats)


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parts_of_a_packed_weight_come_from_several_shards(
    checkpoint: Any, stored: torch.dtype, dtype: torch.dtype
) -> None:
    wanted = table(dtype)
    (weight,) = wanted.packed({"a.weight": 20, "b.weight": 5, "c.weight": 9}, 32)
    a, b, c = (torch.randn(rows, 32).to(stored) for rows in (20, 5, 9))
    load_parameters(wanted, checkpoint.add(c__weight=c).add(b__weight=b, a__weight=a))
    assert torch.equal(weight.rows(torch.arange(34)), torch.cat([a, b, c]).to(dtype))


def test_matrices_and_vectors(checkpoint: Any) -> None:
    wanted = table(torch.bfloat16)
    matrix = wanted.table("m.weight", 3, 4)
    vector = wanted.vector({"v.bias": 2, "w.bias": 3})
    m, v, w = torch.randn(3, 4), torch.randn(2), torch.randn(3)
    load_parameters(wanted, checkpoint.add(w__bias=w, m__weight=m, v__bias=v))
    assert torch.equal(matrix, m.bfloat16())
    assert torch.equal(vector, torch.cat([v, w])), "vectors are kept in fp32 whatever the dtype of matrices"


@pytest.mark.parametrize("fmt", ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"])
def test_quantised_tensors_are_dequantised(checkpoint: Any, fmt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the gguf package, with pieces of 16 rows so that a tensor takes several."""
    monkeypatch.setattr("kvik.layers.parameters._PIECE_ELEMENTS", 64)
    wanted = table()
    (weight,) = wanted.packed({"m.weight": 37}, 64)
    kind = gguf.GGMLQuantizationType[fmt.upper()]
    quantised = gguf.quants.quantize(np.random.default_rng(0).standard_normal((37, 64), np.float32), kind)
    data = torch.from_numpy(quantised.reshape(-1).view(np.uint8).copy())
    load_parameters(wanted, checkpoint.add_raw(RawTensor("m.weight", (37, 64), fmt, data)))
    expected = torch.from_numpy(gguf.quants.dequantize(quantised, kind))
    torch.testing.assert_close(weight.rows(torch.arange(37)), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("fmt", ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "q6_k"])
def test_blocks_lose_nothing_on_their_way(checkpoint: Any, fmt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored formats that have a kernel keep their bytes, q5_0 becomes q8_0, the others bf16."""
    monkeypatch.setattr("kvik.layers.parameters._PIECE_ELEMENTS", 64)
    wanted = ParameterTable("Test", torch.bfloat16, format_of=stored_formats(lambda _: fmt, "bf16"))
    (weight,) = wanted.packed({"a": 16, "b": 21}, 256)
    kind = gguf.GGMLQuantizationType[fmt.upper()]
    blocks = np.concatenate([random_blocks(kind, rows) for rows in (16, 21)])
    raws = [("a", (16, 256), blocks[:16]), ("b", (21, 256), blocks[16:])]
    data = [RawTensor(name, shape, fmt, torch.from_numpy(part.reshape(-1).copy())) for name, shape, part in raws]
    load_parameters(wanted, checkpoint.add_raw(*data))
    assert weight.format == {"q5_0": "q8_0", "q5_1": "bf16", "q5_k": "bf16"}.get(fmt, fmt)
    expected = torch.from_numpy(gguf.quants.dequantize(blocks, kind))
    if weight.format == "bf16":
        expected = expected.bfloat16().float()
    torch.testing.assert_close(weight.rows(torch.arange(37)).float(), expected, rtol=1e-6, atol=1e-6)


def random_blocks(kind: Any, rows: int) -> np.ndarray:
    """Rows of 256 values: any codes, scales of a sane size."""
    size, num_bytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = np.random.default_rng(rows).integers(0, 256, (rows * 256 // size, num_bytes), np.uint8)
    where = {"Q6_K": (208,), "Q4_0": (0,), "Q5_0": (0,), "Q8_0": (0,)}.get(kind.name, (0, 2))
    for at in where:
        blocks[:, at : at + 2] = np.array([0.01], np.float16).view(np.uint8)
    return blocks.reshape(rows, -1)


@pytest.mark.parametrize(("quantization", "fmt"), [("int8", "q8_0"), ("int4", "q4_1")])
def test_floats_are_quantised_as_they_come(
    checkpoint: Any, quantization: str, fmt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvik.layers.parameters._PIECE_ELEMENTS", 64)
    wanted = ParameterTable("Test", torch.bfloat16, format_of=asked_formats(quantization, "bf16"))
    (weight,), (odd,) = wanted.packed({"a": 37}, 64), wanted.packed({"odd": 4}, 30)
    values = torch.randn(37, 64)
    load_parameters(wanted, checkpoint.add(a=values.half(), odd=torch.randn(4, 30)))
    assert (weight.format, odd.format) == (fmt, "bf16"), "30 inputs are no whole blocks"
    data = quantize(values.half().float(), fmt).flatten()
    assert torch.equal(weight.rows(torch.arange(37)), dequantize(data, fmt, 37, 64, torch.float32))


def test_integers_without_a_meaning_are_refused(checkpoint: Any) -> None:
    wanted = table()
    wanted.packed({"a": 4}, 32)
    raw = RawTensor("a", (4, 32), "i8", torch.zeros(128, dtype=torch.uint8))
    with pytest.raises(ModelFileError, match=r"tensor a is stored as i8, .*needs its quantization_config"):
        load_parameters(wanted, checkpoint.add_raw(raw))


def test_unaligned_bytes_are_read(checkpoint: Any) -> None:
    wanted = table()
    vector = wanted.vector({"v": 6})
    values = torch.randn(6)
    data = torch.cat([torch.zeros(3, dtype=torch.uint8), values.view(torch.uint8)])[3:]
    load_parameters(wanted, checkpoint.add_raw(RawTensor("v", (6,), "f32", data)))
    assert torch.equal(vector, values)


def test_on_shard_counts(checkpoint: Any) -> None:
    wanted = table()
    wanted.vector({"a": 1, "b": 1})
    calls: list[tuple[str, int, int]] = []
    load_parameters(wanted, checkpoint.add(a=torch.ones(1)).add(b=torch.ones(1)), lambda *args: calls.append(args))
    assert calls == [("shard-1", 1, 2), ("shard-2", 2, 2)]


def test_missing_tensors_are_named(checkpoint: Any) -> None:
    wanted = table()
    wanted.vector({f"v{i}": 1 for i in range(9)})
    with pytest.raises(ModelFileError, match=r"lacks 8 of the 9 tensors of TestForCausalLM: v0, v1, v2, v3, v4 and 3"):
        load_parameters(wanted, checkpoint.add(v7=torch.ones(1)))


def test_another_shape_is_refused(checkpoint: Any) -> None:
    wanted = table()
    wanted.packed({"m": 4}, 8)
    with pytest.raises(ModelFileError, match=r"tensor m has shape \[8, 4\].*\[4, 8\]"):
        load_parameters(wanted, checkpoint.add(m=torch.ones(8, 4)))


@pytest.mark.parametrize("name", ["v", "stranger"])
def test_a_tensor_that_comes_twice_is_refused(checkpoint: Any, name: str) -> None:
    wanted = table()
    wanted.vector({"v": 1})
    with pytest.raises(ModelFileError, match=rf"tensor {name} is in the checkpoint twice, again in shard-2"):
        load_parameters(wanted, checkpoint.add(**{name: torch.ones(1)}).add(**{name: torch.ones(1)}))


def test_unknown_tensors_are_named_once(checkpoint: Any, caplog: pytest.LogCaptureFixture) -> None:
    wanted = table()
    wanted.vector({"v": 1})
    with caplog.at_level(logging.WARNING):
        load_parameters(wanted, checkpoint.add(v=torch.ones(1), x1=torch.ones(1)).add(x2=torch.ones(2)))
    assert [record.getMessage() for record in caplog.records] == [
        "TestForCausalLM does not use 2 tensors of the checkpoint: x1, x2"
    ]


def test_harmless_tensors_are_not_mentioned(checkpoint: Any, caplog: pytest.LogCaptureFixture) -> None:
    wanted = table()
    wanted.vector({"v": 1})
    wanted.unused.add("lm_head.weight")
    extra = {"lm_head__weight": torch.ones(2, 2), "model__layers__0__self_attn__rotary_emb__inv_freq": torch.ones(4)}
    with caplog.at_level(logging.WARNING):
        load_parameters(wanted, checkpoint.add(v=torch.ones(1), **extra))
    assert not caplog.records


@pytest.mark.parametrize("is_there", [False, True])
def test_optional_tensors_may_be_absent_or_there(checkpoint: Any, is_there: bool) -> None:
    got: list[torch.Tensor] = []
    wanted = table()
    wanted.optional("factors", 3, got.append)
    factors = torch.tensor([1.0, 2.0, 3.0])
    load_parameters(wanted, checkpoint.add(factors=factors) if is_there else checkpoint.add())
    assert [values.tolist() for values in got] == ([factors.tolist()] if is_there else [])
