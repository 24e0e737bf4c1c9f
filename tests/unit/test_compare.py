"""bench/compare.py without a server: medians, verdicts, the table, who can take part, and the traffic's prompts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.ceilings import Ceilings
from bench.engines import KVIK, LLAMA, VLLM, Contestant, Installed
from bench.roofline import bound
from bench.table import Verdict, judge, medians, number, section
from bench.texts import quoted_prompt, source
from bench.traffic import Closed, numbers
from bench.workloads import WORKLOADS, Bar, Workload
from kvik.bench.answer import Answer
from kvik.bench.datasets import WordSource
from kvik.modelfile import embedded_model_path
from kvik.text.tokenizer import Tokenizer

ROUNDS = [
    {KVIK: {"output_tok_per_s": 300.0, "lost": 0.0}, VLLM: {"output_tok_per_s": 100.0, "lost": 1.0}},
    {KVIK: {"output_tok_per_s": 280.0, "lost": 0.0}, VLLM: {"output_tok_per_s": 120.0, "lost": 2.0}},
    {KVIK: {"output_tok_per_s": 100.0, "lost": 0.0}, VLLM: {"output_tok_per_s": 140.0, "lost": 0.0}},
]


def test_medians_of_figures_and_sums_of_losses() -> None:
    assert medians(ROUNDS) == {
        KVIK: {"output_tok_per_s": 280.0, "lost": 0.0},
        VLLM: {"output_tok_per_s": 120.0, "lost": 3.0},
    }


@pytest.mark.parametrize(
    ("bar", "word"),
    [
        (Bar("output_tok_per_s", KVIK, (VLLM,), at_least=2.3), "met"),
        (Bar("output_tok_per_s", KVIK, (VLLM, LLAMA), at_least=2.4), "**missed**"),
        (Bar("output_tok_per_s", KVIK, (LLAMA,), at_least=1.0), "not measured"),
        (Bar("lost", KVIK, at_most=0), "met"),
        (Bar("lost", VLLM, at_most=2), "**missed**"),
        (Bar("output_tok_per_s", "kvik int8", (VLLM,), at_least=1.0), "not measured"),
    ],
)
def test_bars(bar: Bar, word: str) -> None:
    assert judge(bar, medians(ROUNDS)).word == word


def test_the_best_peer_counts() -> None:
    found = {
        KVIK: {"tpot_ms": 10.0, "x": 30.0},
        VLLM: {"tpot_ms": 20.0, "x": 10.0},
        LLAMA: {"tpot_ms": 12.0, "x": 15.0},
    }
    assert judge(Bar("tpot_ms", KVIK, (VLLM, LLAMA), at_most=1), found).value == pytest.approx(10 / 12)
    assert judge(Bar("x", KVIK, (VLLM, LLAMA), at_least=1), found).value == 2.0


def test_a_section_of_the_table() -> None:
    bars = (Bar("output_tok_per_s", KVIK, (VLLM,), at_least=2.0),)
    workload = Workload("w", "32 clients", (), None, ("output_tok_per_s", "ttft_ms", "lost"), bars)
    text = section(workload, medians(ROUNDS), {LLAMA: "no llama-server was given"}, {KVIK: "490 tok/s (57 %)"})
    assert text.splitlines() == [
        "### 32 clients", "", "|  | output tok/s | lost | roofline |", "| --- | --- | --- | --- |",
        "| kvik | 280 | 0 | 490 tok/s (57 %) |", "| vLLM | 120 (0.43 x) | 3 |  |", "",
        "- llama-server: left out, no llama-server was given",
        "- kvik, output_tok_per_s: at least 2 x vLLM, measured 2.33: met",
    ]  # fmt: skip


def test_a_section_nobody_took_part_in() -> None:
    text = section(WORKLOADS[0], {}, {KVIK: "no --model smollm2=PATH was given"}, {})
    assert "not measured" in text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (3.0, "3"), (3.14159, "3.14"), (123.4, "123"), (0.01234, "0.0123")]
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


def test_every_bar_names_contestants_and_figures_of_its_workload() -> None:
    for workload in WORKLOADS:
        labels = {c.label for c in workload.contestants}
        assert all({bar.of, *bar.against} <= labels for bar in workload.bars), workload.name
        assert all((bar.at_least is None) != (bar.at_most is None) for bar in workload.bars)
        figures = numbers([], 1.0).keys() | {"startup_s", "startup_over_cat", "peak_rss_mb"}
        assert {bar.metric for bar in workload.bars} <= figures
    assert len({w.name for w in WORKLOADS}) == len(WORKLOADS)


def test_a_verdict_without_a_value() -> None:
    assert Verdict(Bar("x", KVIK, at_least=1), None).is_met is None


def test_who_can_take_part(tmp_path: Path) -> None:
    gguf, folder = tmp_path / "m.gguf", tmp_path / "hf"
    installed = Installed({LLAMA: "/bin/llama-server", VLLM: "/venv/bin/vllm"}, {"g": gguf, "h": folder}, num_threads=2)
    assert installed.obstacle(Contestant("a", LLAMA, "g")) is None
    assert installed.obstacle(Contestant("a", VLLM, "h")) is None
    assert "reads .gguf files only" in str(installed.obstacle(Contestant("a", LLAMA, "h")))
    assert "Hugging Face folders" in str(installed.obstacle(Contestant("a", VLLM, "g")))
    assert "no --model x=PATH" in str(installed.obstacle(Contestant("a", KVIK, "x")))
    assert Installed({}, {"g": gguf}).obstacle(Contestant("a", LLAMA, "g")) == "no llama-server was given"


def test_roofline(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(2_000_000))
    ceilings = Ceilings(read_gb_per_s=1.0, fp32_gflop_per_s=1.0, bf16_gflop_per_s=1.0)
    bf16, int8 = Contestant("a", KVIK, "m"), Contestant("b", KVIK, "m", ("--quantization", "int8"))
    assert bound(bf16, tmp_path, Closed(1, 1, 0, 100), ceilings) == (2.0, 500.0)
    assert bound(bf16, tmp_path, Closed(1, 1, 100, 100), ceilings) == (2.0, 250.0)
    quick = Ceilings(read_gb_per_s=1.0, fp32_gflop_per_s=1.0, bf16_gflop_per_s=4.0)
    reading, prompts, steps = 100 * 2e-3, 2 * 100 * 0.5e-3, 100 * 8 * 0.5e-3
    assert bound(bf16, tmp_path, Closed(2, 1, 100, 100), quick)[1] == pytest.approx(200 / (reading + prompts))
    assert bound(bf16, tmp_path, Closed(8, 1, 0, 100), quick)[1] == pytest.approx(800 / steps)
    assert bound(int8, tmp_path, Closed(4, 1, 100, 100), ceilings) == (1.0, 4000.0)


def test_prompts_that_quote_and_prompts_that_share() -> None:
    tokenizer = Tokenizer.load(embedded_model_path())
    ids = quoted_prompt(tokenizer, 300, WordSource(tokenizer, 0).random)
    text = tokenizer.decode(ids)
    question = re.search(r'"([^"]+)$', text)
    assert question is not None
    assert text.startswith(question[1])
    assert len(ids) >= 310
    sentences = source(WordSource(tokenizer, 1).random, 200).split(". ")
    assert len(set(sentences)) > 390
    shared = Closed(2, 4, 8, 4, prefix_len=20).prompts(tokenizer, 3)
    assert len({p.token_ids[:20] for p in shared}) == 1
    assert {len(p.token_ids) for p in shared} == {28}


def test_figures_of_a_run() -> None:
    answers = [Answer(0.0, 100, 3, 0.5, [0.1, 0.1], 0.7), Answer(0.0, error="gone")]
    figures = numbers(answers, 2.0)
    assert figures["prefill_tok_per_s"] == pytest.approx(200)
    assert figures["decode_tok_per_s"] == pytest.approx(10)
    assert (figures["lost"], figures["num_output_tokens"]) == (1.0, 3.0)
