"""Adapters beside every kind of decoder: PEFT's own result, and that of weights into which they were merged."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kvik.config.lora import LoraConfig
from kvik.messages import LoraRequest
from kvik.models import Model
from kvik.runner.adapters import Adapters
from support.adapters import merge, write_adapter

LENGTH = 24


def with_adapter(model: Model, folder: Path, dtype: str = "float32") -> None:
    """The adapter of `folder` in slot 1 of 2."""
    config = LoraConfig(max_lora_rank=16, max_cpu_loras=2, dtype=dtype)
    assert model.reserve_adapters(2, 16, getattr(torch, dtype)) > 0
    Adapters(model.lora_targets, config).ensure(LoraRequest("a", 1, str(folder)), 1)


def logits(paged: Any, prompt: list[int], slot: int | None) -> torch.Tensor:
    batch = paged.batch([(paged.request(prompt, 0), len(prompt))])
    if slot is not None:
        batch.lora_slots = torch.full((len(prompt),), slot, dtype=torch.int32)
    return paged.model.logits(paged.model.forward(batch), torch.arange(len(prompt), dtype=torch.int32))


def prompt_of(reference: Any) -> list[int]:
    chance = random.Random(5)
    return [chance.randrange(3, reference.config.vocab_size) for _ in range(LENGTH)]


def peft_logits(reference: Any, folder: Path, prompt: list[int]) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from peft import PeftModel

        model = PeftModel.from_pretrained(reference, str(folder)).eval()
    with torch.no_grad():
        return model(torch.tensor([prompt])).logits[0]


def test_peft_gives_the_same_logits(reference: Any, driver: Callable[[torch.dtype], Any], tmp_path: Path) -> None:
    """With ranks and scales of their own for some modules, and scales by the root of the rank."""
    paged, prompt = driver(torch.float32), prompt_of(reference)
    folder = write_adapter(
        tmp_path / "adapter", paged.model.spec, rank=8, ranks={"k_proj": 3, "mlp.down_proj": 16}, use_rslora=True,
        alpha_pattern={"q_proj": 5, "model.layers.0.self_attn.o_proj": 1.5}, size=0.5,
    )  # fmt: skip
    plain = paged.prompt_logits(prompt)
    with_adapter(paged.model, folder)
    wanted = peft_logits(reference, folder, prompt)
    changed = float((wanted - plain).abs().max())
    assert changed > 0.05, "the adapter does nothing; the test would be weak"
    torch.testing.assert_close(logits(paged, prompt, 1), wanted, rtol=0, atol=min(2e-4, 0.01 * changed))
    assert torch.equal(logits(paged, prompt, -1), plain)
    assert torch.equal(logits(paged, prompt, None), plain)


def test_merged_bfloat16_weights_give_the_same_logits(
    reference: Any, driver: Callable[[torch.dtype], Any], tmp_path: Path
) -> None:
    """Merging rounds the sum to bf16, which the product beside the layer does not."""
    reference.to(torch.bfloat16).save_pretrained(tmp_path)
    prompt, paged = prompt_of(reference), driver(torch.bfloat16)
    folder = write_adapter(tmp_path / "adapter", paged.model.spec, size=0.5)
    plain = paged.prompt_logits(prompt)
    with_adapter(paged.model, folder, "bfloat16")
    adapted = logits(paged, prompt, 1)
    reference.load_state_dict(merge(reference.state_dict(), folder))
    reference.save_pretrained(tmp_path)
    merged = driver(torch.bfloat16).prompt_logits(prompt)
    off, changed = ((other - merged).square().mean().sqrt() for other in (adapted, plain))
    assert off < 0.05 * changed
    assert off < 0.02 * merged.std()


@pytest.mark.parametrize("fmt", ["q8_0", "q4_0"])
def test_quantised_bases_have_it_added_to_their_own_result(
    fmt: str, transformers: Any, tmp_path: Path, driver: Callable[..., Any]
) -> None:
    """The adapter does not care how the layer below came to its numbers: here one of zeros changes not a bit."""
    from kvik.modelfile import open_model

    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=99, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    paged = driver(torch.bfloat16, lambda name, _k: fmt if "layers" in name else "q16")
    spec, prompt = open_model(str(tmp_path)).spec, list(range(3, 3 + LENGTH))
    plain = paged.prompt_logits(prompt)
    with_adapter(paged.model, write_adapter(tmp_path / "zero", spec, size=0.0))
    assert torch.equal(logits(paged, prompt, 1), plain)
    with_adapter(paged.model, write_adapter(tmp_path / "some", spec, size=1.0))
    assert not torch.equal(logits(paged, prompt, 1), plain)
