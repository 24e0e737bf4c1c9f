"""The compiled pass against the model itself, and what it costs a second time.

Most of it runs the trace as it is, without inductor, which takes a second instead of twenty.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from kvik.compilation.compiled_pass import CompilationError, CompiledPass
from kvik.compilation.fill_cache import CacheFiller, FillReply, FillRequest
from kvik.config.compilation import ATTENTION_OP, CompilationConfig
from kvik.errors import ConfigError
from kvik.kernels.linear import PackedWeight
from kvik.models import ARCHITECTURES
from support.tiny_models import TinyModel

PROMPTS = [(5,), (1,), (1, 1, 1), (2,), (17, 1, 30), (64,), (1, 1), (33, 3)]
"""Steps of all sizes, one token and one request among them."""
ONE = CompilationConfig(mode="DYNAMO_TRACE_ONCE", backend="eager")
SPLIT = CompilationConfig(mode="VLLM_COMPILE", splitting_ops=(ATTENTION_OP,), backend="eager")


TOLERANCE = {"rtol": 1e-3, "atol": 2e-4}
"""Sums in another order, and now and then a key that is rounded to the next fp16."""


def compare(tiny: TinyModel, compiled: CompiledPass) -> None:
    """Hidden states, logits and caches, for steps of all sizes."""
    for lengths in PROMPTS:
        batch, other = tiny.batches(*lengths)
        hidden, expected = compiled.forward(batch), tiny.model.forward(other)
        torch.testing.assert_close(hidden, expected, **TOLERANCE)
        logits = compiled.logits(hidden, batch.logits_rows)
        torch.testing.assert_close(logits, tiny.model.logits(expected, other.logits_rows), **TOLERANCE)
        for kv, other_kv in zip(tiny.kv, tiny.other_kv, strict=True):
            torch.testing.assert_close(kv.k, other_kv.k, rtol=1e-2, atol=1e-4)
            torch.testing.assert_close(kv.v, other_kv.v, rtol=1e-2, atol=1e-4)
        assert kv.k.abs().sum() > 0


@pytest.mark.parametrize("config", [ONE, SPLIT], ids=["one graph", "split"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_one_trace_for_all_sizes(architecture: str, config: CompilationConfig) -> None:
    tiny = TinyModel.of(architecture)
    counters.clear()
    compiled = CompiledPass(tiny.model, config)
    report = compiled.compile()
    assert report.num_graphs == (1 if config is ONE else tiny.model.spec.num_layers + 1)
    compare(tiny, compiled)
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


@pytest.mark.parametrize("fmt", ["bf16", "q16", "q8_0", "q4_0", "fp8"])
def test_weights_in_every_layout(fmt: str) -> None:
    tiny = TinyModel.of(formats=lambda _name, _k: fmt)
    compiled = CompiledPass(tiny.model, ONE)
    compiled.compile()
    compare(tiny, compiled)


def test_projections_of_several_formats() -> None:
    tiny = TinyModel.of("Qwen2ForCausalLM", formats=lambda name, _k: "q8_0" if "v_proj" in name else "q4_0")
    compiled = CompiledPass(tiny.model, SPLIT)
    compiled.compile()
    compare(tiny, compiled)


def test_two_models_do_not_take_each_others_graphs() -> None:
    tinies = [TinyModel.of("LlamaForCausalLM"), TinyModel.of("Qwen3ForCausalLM")]
    passes = [CompiledPass(tiny.model, ONE) for tiny in tinies]
    for compiled in passes:
        compiled.compile()
    for tiny, compiled in zip(tinies, passes, strict=True):
        compare(tiny, compiled)


def test_sizes_of_their_own() -> None:
    tiny = TinyModel.of()
    counters.clear()
    compiled = CompiledPass(
        tiny.model, CompilationConfig(mode="DYNAMO_TRACE_ONCE", backend="eager", compile_sizes=(1, 5))
    )
    assert compiled.compile().num_graphs == 3
    compare(tiny, compiled)
    assert counters["stats"]["unique_graphs"] == 3


def test_attention_may_be_called_elsewhere() -> None:
    """As when pieces are captured: what stands at attention is asked in the order of the layers."""
    tiny = TinyModel.of()
    compiled = CompiledPass(tiny.model, SPLIT)
    compiled.compile()
    batch, other = tiny.batches(3, 4)
    met = []

    def at_attention(attend, qkv):  # type: ignore[no-untyped-def]
        met.append(attend)
        return attend(qkv, other)

    batch.at_attention = at_attention
    torch.testing.assert_close(compiled.forward(batch), tiny.model.forward(other), **TOLERANCE)
    assert met == [attention.attend for attention in tiny.model.attentions]


def test_the_op_of_a_product_is_told_all_that_a_weight_is() -> None:
    assert PackedWeight.__slots__ == (
        "data", "dtype", "format", "input_scale", "is_for_gpu", "is_packed", "k", "n",
    )  # fmt: skip


def test_a_pass_without_a_batch_is_a_mistake() -> None:
    tiny = TinyModel.of()
    compiled = CompiledPass(tiny.model, ONE)
    compiled.compile()
    with pytest.raises(RuntimeError, match="without a batch"):
        compiled._any_size(torch.zeros(2, dtype=torch.int32))


def test_options_are_known_to_inductor() -> None:
    config = CompilationConfig(mode="DYNAMO_TRACE_ONCE", inductor_compile_config={"max_autotunes": True})
    with pytest.raises(ConfigError, match="'max_autotunes', which inductor has not; did you mean 'max_autotune'"):
        CompiledPass(TinyModel.of().model, config)


# --- inductor ----------------------------------------------------------------------------------------


def quick(cache_folder: Path) -> CompilationConfig:
    """Poor code, compiled in a third of the time."""
    options = {"cpp.simdlen": 1, "cpp_cache_precompile_headers": False}
    return CompilationConfig(
        mode="VLLM_COMPILE", splitting_ops=(ATTENTION_OP,), cache_dir=str(cache_folder), inductor_compile_config=options
    )


@pytest.mark.timeout(240)
def test_inductor_compiles_once_for_all_sizes(tmp_path: Path) -> None:
    tiny = TinyModel.of(num_layers=1)
    compiled = CompiledPass(tiny.model, quick(tmp_path))
    report = compiled.compile()
    assert (report.num_graphs, report.num_from_cache) == (2, 0)
    before = dict(counters["inductor"]), dict(counters["stats"])
    compare(tiny, compiled)
    assert (dict(counters["inductor"]), dict(counters["stats"])) == before


@pytest.mark.timeout(240)
def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    request = request_of(TinyModel.of(num_layers=1), quick(tmp_path))
    first, second = reply_of(CacheFiller(request)), reply_of(CacheFiller(request))
    assert (first.num_graphs, first.num_from_cache) == (2, 0)
    assert (second.num_graphs, second.num_from_cache) == (2, 2)


@pytest.mark.timeout(240)
def test_without_a_compiler_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RuntimeError, match=r"(?i)compiler"):
        reply_of(CacheFiller(request_of(TinyModel.of(num_layers=1), quick(tmp_path))))


def test_a_cache_that_cannot_be_is_a_reason_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    compiled = CompiledPass(
        TinyModel.of().model, CompilationConfig(mode="DYNAMO_TRACE_ONCE", cache_dir=str(tmp_path / "file"))
    )
    with pytest.raises(CompilationError, match="FileExistsError"):
        compiled.compile()


def request_of(tiny: TinyModel, config: CompilationConfig) -> FillRequest:
    model = tiny.model
    return FillRequest(
        model.spec, "float32", "float32", "cpu", model.spec.max_position_embeddings, model.formats, config,
        torch.get_num_threads(),
    )  # fmt: skip


def reply_of(filler: CacheFiller) -> FillReply:
    filler.wait()
    reply = filler.reply()
    assert reply is not None
    return reply
