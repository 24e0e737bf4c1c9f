"""What an adapter may be, and what is said of one that cannot be computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kvik.config.lora import LoraConfig
from kvik.errors import ModelFileError
from kvik.messages import LoraRequest
from kvik.modelfile.spec import ModelSpec, RopeSpec
from kvik.models import Model, build_model
from kvik.runner.adapters import Adapters
from support.adapters import write_adapter

SPEC = ModelSpec(
    architecture="LlamaForCausalLM", vocab_size=97, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=4,
    num_kv_heads=2, head_dim=8, max_position_embeddings=64, rms_norm_eps=1e-5, rope=RopeSpec(theta=10000.0),
)  # fmt: skip
Q = "base_model.model.model.layers.0.self_attn.q_proj"


def small_model(num_slots: int = 2, dtype: str = "float32") -> tuple[Model, Adapters]:
    model = build_model(SPEC, torch.float32)
    model.reserve_adapters(num_slots, 16, getattr(torch, dtype))
    config = LoraConfig(max_loras=num_slots, max_cpu_loras=num_slots, dtype=dtype)
    return model, Adapters(model.lora_targets, config)


def output(model: Model, slot: int) -> torch.Tensor:
    """What the adapter in a slot adds to each layer's output, for the same input."""
    added = []
    for target in model.lora_targets:
        out = torch.zeros(1, sum(target.sizes.values()))
        target.add(out, torch.linspace(-1, 1, target.num_inputs)[None], torch.tensor([slot], dtype=torch.int32))
        added.append(out)
    return torch.cat(added, dim=1)


def request(folder: Path, int_id: int = 1) -> LoraRequest:
    return LoraRequest("a", int_id, str(folder))


def test_a_slot_holds_what_it_was_last_given(tmp_path: Path) -> None:
    model, adapters = small_model()
    one = request(write_adapter(tmp_path / "1", SPEC, seed=1), 1)
    two = request(write_adapter(tmp_path / "2", SPEC, seed=2, modules=["q_proj", "down_proj"], rank=3), 2)
    adapters.ensure(one, 0)
    first = output(model, 0)
    assert first.all()
    adapters.ensure(two, 0)
    assert (output(model, 0) == 0).any(), "modules that it does not change keep nothing of the one before"
    adapters.ensure(one, 0)
    assert torch.equal(output(model, 0), first)
    adapters.ensure(one, 1)
    assert torch.equal(output(model, 1), first)


def test_what_is_there_is_not_read_again(tmp_path: Path) -> None:
    model, adapters = small_model()
    folder = write_adapter(tmp_path, SPEC)
    adapters.ensure(request(folder), 0)
    before = output(model, 0)
    (folder / "adapter_model.safetensors").unlink()
    adapters.ensure(request(folder), 0)
    assert torch.equal(output(model, 0), before)
    with pytest.raises(ModelFileError, match=r"no adapter_model.safetensors"):
        adapters.ensure(request(folder, int_id=2), 0)


def test_a_slot_that_could_not_be_filled_is_filled_when_it_can_be(tmp_path: Path) -> None:
    model, adapters = small_model()
    for _ in range(2):
        with pytest.raises(ModelFileError, match="no LoRA adapter"):
            adapters.ensure(request(tmp_path / "later"), 0)
    write_adapter(tmp_path / "later", SPEC)
    adapters.ensure(request(tmp_path / "later"), 0)
    assert output(model, 0).any()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_factors_are_kept_in_the_dtype_that_was_asked_for(tmp_path: Path, dtype: str) -> None:
    exact, rounded = small_model(), small_model(dtype=dtype)
    for _, adapters in (exact, rounded):
        adapters.ensure(request(write_adapter(tmp_path, SPEC)), 0)
    a, b = output(exact[0], 0), output(rounded[0], 0)
    assert not torch.equal(a, b)
    torch.testing.assert_close(a, b, rtol=0, atol=0.02 * float(a.abs().max()))


BAD_FILES: list[tuple[dict[str, Any], str]] = [
    ({"rank": 17}, r"_proj has rank 17, above --max-lora-rank 16; start with --max-lora-rank 32"),
    ({"rank": 513}, r"rank 513, above --max-lora-rank 16; ranks above 512 are not supported"),
    ({"tensors": {f"{Q}.lora_B.weight": None}}, r"layers.0.self_attn.q_proj has lora_A but no lora_B"),
    ({"tensors": {f"{Q}.lora_A.weight": None}}, r"q_proj has lora_B but no lora_A"),
    ({"tensors": {f"{Q}.lora_A.weight": torch.zeros(8, 31)}}, r"31 inputs and 32 outputs; this model's has 32 and 32"),
    ({"tensors": {f"{Q}.lora_B.weight": torch.zeros(33, 8)}}, r"32 inputs and 33 outputs; .* of another model"),
    ({"tensors": {f"{Q}.lora_A.weight": torch.zeros(7, 32)}}, r"\[7, 32\] and \[32, 8\], but .* gives it rank 8"),
    ({"tensors": {f"{Q}.lora_A.weight": torch.zeros(8)}}, r"must be a matrix"),
    ({"tensors": {f"{Q}.lora_A.weight": torch.full((8, 32), torch.nan)}}, r"numbers that are not finite in float32"),
    ({"tensors": {f"{Q}.lora_B.bias": torch.zeros(32)}}, r"biases of adapters are not computed"),
    ({"tensors": {f"{Q}.lora_magnitude_vector": torch.zeros(32)}}, r"DoRA"),
    ({"tensors": {"base_model.model.model.embed_tokens.lora_embedding_A": torch.zeros(8, 97)}}, r"of embeddings"),
    ({"tensors": {"base_model.model.lm_head.weight": torch.zeros(97, 32)}}, r"modules_to_save"),
    (
        {"tensors": {f"base_model.model.lm_head.lora_{s}.weight": torch.zeros(8, 8) for s in "AB"}},
        r"'lm_head' is not a linear layer .* may change down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj",
    ),
    (
        {"tensors": {f"base_model.model.model.layers.2.mlp.up_proj.lora_{s}.weight": torch.zeros(8, 8) for s in "AB"}},
        r"'model.layers.2.mlp.up_proj' is not a linear layer",
    ),
    ({"modules": ["q_proj"], "target_modules": ["q_proj", "w_pack"]}, r"target module 'w_pack' is not a linear layer"),
    ({"modules": ["q_proj"], "target_modules": ["q_proj", "embed_tokens"]}, r"target module 'embed_tokens'"),
    ({"modules": ["q_proj"], "target_modules": ["q_proj", "v_proj"]}, r"'v_proj', but the weights file has nothing"),
    ({"modules": []}, r"has no LoRA factors"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_FILES)
def test_what_cannot_be_computed_is_said(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    model, adapters = small_model()
    folder = write_adapter(tmp_path, SPEC, **changes)
    for ask in (lambda: adapters.check(request(folder)), lambda: adapters.ensure(request(folder), 0)):
        with pytest.raises(ModelFileError, match=message):
            ask()
    assert not output(model, 1).any()


def test_a_number_too_large_for_fp16_is_said(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path, SPEC, tensors={f"{Q}.lora_A.weight": torch.full((8, 32), 7e4)})
    small_model()[1].check(request(folder))
    with pytest.raises(ModelFileError, match=r"not finite in float16; .* another --lora-dtype"):
        small_model(dtype="float16")[1].check(request(folder))


def test_a_file_cut_short_is_said(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path, SPEC)
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelFileError, match="cut short or broken"):
        small_model()[1].check(request(folder))


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path, SPEC)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ModelFileError, match="a pickle, which can run code"):
        small_model()[1].check(request(folder))


def test_older_names_are_read_too(tmp_path: Path) -> None:
    """Without PEFT's prefix, and with the name of the only adapter in them."""
    from safetensors.torch import load_file, save_file

    model, adapters = small_model()
    folder = write_adapter(tmp_path, SPEC)
    adapters.ensure(request(folder), 0)
    tensors = load_file(folder / "adapter_model.safetensors")
    renamed = {
        name.removeprefix("base_model.model.").replace(".weight", ".default.weight"): tensor
        for name, tensor in tensors.items()
    }
    save_file(renamed, folder / "adapter_model.safetensors")
    adapters.ensure(request(folder, 2), 1)
    assert torch.equal(output(model, 0), output(model, 1))


def test_target_modules_may_be_an_expression(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path, SPEC, modules=["q_proj"], target_modules=".*q_proj")
    small_model()[1].check(request(folder))
    assert json.loads((folder / "adapter_config.json").read_text())["target_modules"] == ".*q_proj"
