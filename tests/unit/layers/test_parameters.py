"""Declared tensors, their memory and their dummy values."""

from __future__ import annotations

import pytest
import torch

from kvik.kernels.linear import PackedWeight
from kvik.layers.parameters import Parameter, ParameterTable


def test_a_name_can_be_declared_once() -> None:
    table = ParameterTable("TestForCausalLM", torch.float32)
    table.vector({"a": 1})
    with pytest.raises(ValueError, match=r"tensor a is declared twice by TestForCausalLM"):
        table.packed({"a": 4}, 4)


@pytest.mark.parametrize(("rows", "columns"), [(1, 8), (100, 1 << 20), (49152, 576), (7, 1 << 24)])
def test_row_ranges_cover_all_rows_in_whole_panels(rows: int, columns: int) -> None:
    ranges = list(Parameter("p", (rows, columns), lambda row, values: None).row_ranges())
    assert [row for first, end in ranges for row in range(first, end)] == list(range(rows))
    assert all(first % 16 == 0 for first, _ in ranges)


def test_num_bytes_counts_what_was_reserved() -> None:
    table = ParameterTable("TestForCausalLM", torch.bfloat16)
    table.vector({"a": 3, "b": 5})
    table.table("m", 4, 6)
    assert table.num_bytes == 4 * 8 + 2 * 24
    (weight,) = table.packed({"p": 32}, 16)
    assert table.num_bytes == 4 * 8 + 2 * 24 + weight.nbytes
    assert table.num_bytes_by_format == {"f32": 4 * 8, "bf16": 2 * 24, "q16": weight.nbytes}


def test_neighbours_of_one_format_are_one_weight() -> None:
    formats = {"a": "q4_0", "b": "q4_0", "c": "q8_0", "d": "bf16"}
    table = ParameterTable("TestForCausalLM", torch.bfloat16, format_of=lambda name, k: formats[name])
    weights = table.packed(dict.fromkeys(formats, 16), 64)
    assert [(weight.format, weight.n) for weight in weights] == [("q4_0", 32), ("q8_0", 16), ("bf16", 16)]
    assert table.num_bytes_by_format == {weight.format: weight.nbytes for weight in weights}
    assert {name: parameter.format for name, parameter in table.by_name.items()} == formats


def test_a_quantised_table_can_be_looked_up() -> None:
    table = ParameterTable("TestForCausalLM", torch.bfloat16, format_of=lambda name, k: "q8_0")
    weight = table.table("e", 5, 32)
    assert isinstance(weight, PackedWeight)
    assert (weight.format, weight.n, weight.k) == ("q8_0", 5, 32)


def test_random_values_are_normal_and_repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvik.layers.parameters._PIECE_ELEMENTS", 1024)

    def fill(seed: int) -> torch.Tensor:
        table = ParameterTable("TestForCausalLM", torch.float32)
        table.optional("never", 4, lambda values: pytest.fail("optional tensors have no dummy"))
        (weight,), vector = table.packed({"a": 300, "b": 20}, 64), table.vector({"v": 64})
        table.fill_random(seed)
        return torch.cat([weight.rows(torch.arange(320)), vector[None]])

    values = fill(3)
    assert torch.equal(values, fill(3))
    assert not torch.equal(values, fill(4))
    assert abs(float(values.mean())) < 0.001
    assert abs(float(values.std()) - 0.02) < 0.001
