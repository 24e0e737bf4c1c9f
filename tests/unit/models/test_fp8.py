"""Models in 8-bit floats, on a GPU that the interpreter stands in for and on the CPU, against transformers' with the
arithmetic of each scheme written out in plain torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from kvik.errors import ModelFileError
from kvik.kernels.paged_attention import allocate_kv_cache
from kvik.layers.batch import LayerKV
from kvik.layers.formats import formats_in_memory
from kvik.modelfile import open_model
from kvik.models import Model, build_model
from kvik.weights import open_checkpoint
from support.triton_interpreter import standing_in_for_gpu

E4M3, F32 = torch.float8_e4m3fn, torch.float32
PROMPT = [5, 17, 3, 99, 42, 8, 8, 120]
CONFIG = {
    "vocab_size": 131, "hidden_size": 160, "intermediate_size": 144, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 256,
}  # fmt: skip
DYNAMIC = {"quant_method": "fp8", "activation_scheme": "dynamic"}
STATIC = {"quant_method": "fp8", "activation_scheme": "static"}
BLOCK = {**DYNAMIC, "weight_block_size": [128, 128]}
CHANNEL = {
    "quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"],
    "config_groups": {"group_0": {
        "weights": {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "channel"},
        "input_activations": {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True},
    }},
}  # fmt: skip
SCHEMES = {"fp8": DYNAMIC, "fp8_static": STATIC, "fp8_block": BLOCK, "channel": CHANNEL}
INPUT_SCALE = 0.02
LEFT_ALONE = "model.layers.1.mlp.down_proj.weight"
Linear = Callable[[torch.Tensor], torch.Tensor]


def quantised(weight: torch.Tensor, scheme: str) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """What a file holds of a matrix, and the values that it means."""
    if scheme == "fp8_block":
        bands, groups = -(-weight.shape[0] // 128), -(-weight.shape[1] // 128)
        scales = torch.empty(bands, groups)
        for i in range(bands):
            for j in range(groups):
                scales[i, j] = weight[i * 128 : (i + 1) * 128, j * 128 : (j + 1) * 128].abs().max() / 448
        spread = scales.repeat_interleave(128, 0).repeat_interleave(128, 1)[: weight.shape[0], : weight.shape[1]]
        codes = (weight / spread).to(E4M3)
        return {"weight": codes, "weight_scale_inv": scales}, codes.float() * spread
    scale = (weight.abs().amax(1, keepdim=True) if scheme == "channel" else weight.abs().max()) / 448
    codes = (weight / scale).to(E4M3)
    parts = {"weight": codes, "weight_scale": scale.clone()}
    if scheme == "fp8_static":
        parts["input_scale"] = torch.tensor(INPUT_SCALE)
    return parts, codes.float() * scale


def rounded(x: torch.Tensor, scheme: str) -> torch.Tensor:
    """Inputs as the scheme has them multiplied."""
    if scheme == "fp8_static":
        return (x / INPUT_SCALE).clamp(-448, 448).to(E4M3).float() * INPUT_SCALE
    parts = x.split(128, -1) if scheme == "fp8_block" else (x,)
    scales = [part.abs().amax(-1, keepdim=True) / 448 for part in parts]
    return torch.cat([(p / s).to(E4M3).float() * s for p, s in zip(parts, scales, strict=True)], -1)


@pytest.fixture
def reference(transformers: ModuleType) -> Any:
    torch.manual_seed(5)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**CONFIG)).eval()
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            if parameter.ndim == 2:  # parts of a projection have scales far apart
                parameter.normal_(0.0, (1 + index % 3) * 0.7 / parameter.shape[1] ** 0.5)
    return model


def save(model: Any, folder: Path, scheme: str, **more: torch.Tensor) -> None:
    """The model in 8-bit floats to `folder`; the model itself becomes what these mean, with rounded inputs where a
    module's `rounds` is set."""
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": SCHEMES[scheme]}))
    tensors = load_file(folder / "model.safetensors")
    for name, module in model.named_modules():
        if not isinstance(module, torch.nn.Linear) or f"{name}.weight" in ("lm_head.weight", LEFT_ALONE):
            continue
        parts, values = quantised(module.weight.data, scheme)
        tensors |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
        module.weight.data = values
        module.register_forward_pre_hook(lambda _, inputs: (model.prepare(inputs[0]),))
    save_file({**tensors, **more}, folder / "model.safetensors", {"format": "pt"})


def load(folder: Path, *, is_gpu: bool, asked: str | None = None) -> Model:
    model_file = open_model(folder)
    checkpoint = open_checkpoint(model_file)
    formats = formats_in_memory(asked, checkpoint, "f32", keeps_fp8=is_gpu)
    model = build_model(model_file.spec, F32, format_of=formats)
    model.load(checkpoint)
    return model


@pytest.mark.parametrize("scheme", SCHEMES)
def test_logits_of_every_scheme(reference: Any, scheme: str, tmp_path: Path, paged_driver: Any) -> None:
    """Parts of q, k, v and of gate, up have scales of their own; one layer is left in floats."""
    save(reference, tmp_path, scheme)
    exact = load(tmp_path, is_gpu=False)
    assert set(exact.weights_bytes_by_format) == {"f32"}
    reference.prepare = lambda x: x
    wanted = reference(torch.tensor([PROMPT])).logits[0]
    torch.testing.assert_close(paged_driver(exact).prompt_logits(PROMPT), wanted, rtol=1e-4, atol=1e-4)

    reference.prepare = lambda x: rounded(x, scheme)
    with_rounding = reference(torch.tensor([PROMPT])).logits[0]
    with standing_in_for_gpu():
        model = load(tmp_path, is_gpu=True)
        found = paged_driver(model).prompt_logits(PROMPT)
    assert set(model.weights_bytes_by_format) == {"f32", "fp8" if scheme == "channel" else scheme}
    noise = (with_rounding - wanted).abs().mean()  # of rounding inputs at all
    assert (found - with_rounding).abs().mean() < 0.1 * noise, "a code that falls to the other side is seldom"


@pytest.mark.parametrize("dtype", [E4M3, torch.float8_e5m2])
def test_scales_of_keys_and_values(reference: Any, dtype: torch.dtype, tmp_path: Path, paged_driver: Any) -> None:
    """Keys that without their scale would not fit into e4m3, or vanish in it."""
    reference.prepare = lambda x: x
    with torch.no_grad():
        for layer in reference.model.layers:
            layer.self_attn.k_proj.weight.mul_(3000)
            layer.self_attn.q_proj.weight.div_(3000)
            layer.self_attn.v_proj.weight.div_(3000)
            layer.self_attn.o_proj.weight.mul_(3000)
    scales = {}
    for layer in range(2):
        scales[f"model.layers.{layer}.self_attn.k_scale"] = torch.tensor(60.0)
        scales[f"model.layers.{layer}.self_attn.v_proj.v_scale"] = torch.tensor([1e-4])
    save(reference, tmp_path, "channel", **scales)
    wanted = reference(torch.tensor([PROMPT])).logits[0].detach().log_softmax(-1)
    with standing_in_for_gpu():
        found = []
        for with_scales in (True, False):
            model = load(tmp_path, is_gpu=False)
            if not with_scales:
                for layer in model.layers:
                    layer.attention._k_scale = layer.attention._v_scale = 1.0
            driver = paged_driver(model)
            shape = (40, 2, 32, 16, dtype)
            driver.kv = [LayerKV(*allocate_kv_cache(*shape, device=torch.device("cpu"))) for _ in range(2)]
            found.append(driver.prompt_logits(PROMPT).log_softmax(-1))
    kl = [float((wanted.exp() * (wanted - logits)).sum(-1).mean()) for logits in found]
    assert kl[0] < 0.1
    if dtype is E4M3:
        assert kl[1] > 5 * kl[0]


def test_whole_numbers_of_8_bit_floats_on_a_cpu(reference: Any, tmp_path: Path, paged_driver: Any) -> None:
    save(reference, tmp_path, "fp8_block")
    exact, quantised = load(tmp_path, is_gpu=False), load(tmp_path, is_gpu=False, asked="int8")
    assert "q8_0" in quantised.weights_bytes_by_format
    assert quantised.weights_bytes < 0.4 * exact.weights_bytes
    wanted, found = (paged_driver(m).prompt_logits(PROMPT).log_softmax(-1) for m in (exact, quantised))
    assert float((wanted.exp() * (wanted - found)).sum(-1).mean()) < 1e-2


def test_a_scale_of_keys_that_is_none(reference: Any, tmp_path: Path) -> None:
    save(reference, tmp_path, "channel", **{"model.layers.1.self_attn.k_scale": torch.tensor(0.0)})
    with pytest.raises(ModelFileError, match=r"model.layers.1.self_attn.k_scale is 0.0; it must be a number above 0"):
        load(tmp_path, is_gpu=False)
