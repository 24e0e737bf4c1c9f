"""Tiny random checkpoints made with transformers, and a driver that runs models without scheduler and runner."""

from __future__ import annotations

import random
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from kvik.kernels.paged_attention import allocate_kv_cache
from kvik.layers.batch import ForwardBatch, LayerKV
from kvik.layers.formats import FormatOf
from kvik.modelfile import open_model
from kvik.models import Model, build_model
from kvik.weights import open_checkpoint


@pytest.fixture(scope="session")
def transformers() -> ModuleType:
    """The reference; its import takes seconds, so it is done once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        assert transformers.AutoModelForCausalLM
    return transformers


@dataclass(frozen=True)
class Case:
    """One architecture with one set of odd dimensions."""

    name: str
    model_class: str
    config: dict[str, Any]


BASE = {
    "vocab_size": 131,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
GEMMA3 = {"head_dim": 32, "num_hidden_layers": 4, "query_pre_attn_scalar": 24, "tie_word_embeddings": True}

CASES = [
    Case("llama", "Llama", {}),
    Case("llama-no-gqa-tied", "Llama", {"num_key_value_heads": 4, "tie_word_embeddings": True, "vocab_size": 96}),
    Case("llama-one-kv-head-biases", "Llama", {"num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True}),
    Case("llama3-rope-wide-heads", "Llama", {"rope_parameters": LLAMA3_ROPE, "head_dim": 32, "vocab_size": 517}),
    Case("llama-linear-rope", "Llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}),
    Case("llama-odd-sizes", "Llama", {"hidden_size": 72, "num_attention_heads": 9, "num_key_value_heads": 3}),
    Case("mistral-window", "Mistral", {"sliding_window": 7}),
    Case("mistral-all", "Mistral", {"sliding_window": None, "head_dim": 24, "num_key_value_heads": 1}),
    Case("qwen2", "Qwen2", {"tie_word_embeddings": True}),
    Case("qwen2-window", "Qwen2", {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}),
    Case("qwen3", "Qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    Case("qwen3-biases", "Qwen3", {"head_dim": 16, "attention_bias": True, "num_key_value_heads": 4}),
    Case("gemma3", "Gemma3", {**GEMMA3, "sliding_window": 6, "sliding_window_pattern": 2}),
    Case("gemma3-one-kv-head", "Gemma3", {**GEMMA3, "num_key_value_heads": 1, "sliding_window": 40, "vocab_size": 200}),
]


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def reference(case: Case, transformers: ModuleType, tmp_path: Path) -> Any:
    """A random model of `case` in fp32, also saved to `tmp_path` as a Hugging Face folder."""
    return make_reference(transformers, case, tmp_path)


def make_reference(transformers: ModuleType, case: Case, path: Path) -> Any:
    config_name = f"{case.model_class}{'Text' if case.model_class == 'Gemma3' else ''}Config"
    config = getattr(transformers, config_name)(**{**BASE, **case.config})
    torch.manual_seed(len(case.name))
    model = getattr(transformers, f"{case.model_class}ForCausalLM")(config).eval()
    randomise(model)
    model.save_pretrained(path)
    return model


@torch.no_grad()
def randomise(model: torch.nn.Module) -> None:
    """Weights large enough that best and second-best logit differ by more than rounding; no norm or bias is left at
    its default. Logits spread by 0.16, as with the initialisation of transformers."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            parameter.normal_(0.0, (0.16 if "embed" in name or "head" in name else 1.0) / parameter.shape[1] ** 0.5)
        else:
            parameter.add_(torch.randn_like(parameter) * (0.2 if "norm" in name else 0.05))


@dataclass
class PagedRequest:
    prompt: list[int]
    block_table: list[int]
    num_computed: int = 0
    output: list[int] = field(default_factory=list)

    @property
    def tokens(self) -> list[int]:
        return self.prompt + self.output


class PagedDriver:
    """Runs requests through a model: paged cache, blocks handed out in random order, prompts cut in random chunks."""

    block_size = 16

    def __init__(self, model: Model, *, num_blocks: int = 40, seed: int = 0) -> None:
        spec = model.spec
        kv_dtype = torch.float32 if model.dtype == torch.float32 else torch.float16
        shape = (num_blocks, spec.num_kv_heads, spec.head_dim, self.block_size, kv_dtype)
        self.model = model
        self.kv = [LayerKV(*allocate_kv_cache(*shape)) for _ in range(spec.num_layers)]
        self.random = random.Random(seed)
        self.free = list(range(num_blocks))
        self.random.shuffle(self.free)

    def request(self, prompt: list[int], max_tokens: int) -> PagedRequest:
        num_blocks = -(-(len(prompt) + max_tokens) // self.block_size)
        return PagedRequest(prompt, [self.free.pop() for _ in range(num_blocks)])

    def generate(self, prompts: list[list[int]], max_tokens: int) -> list[list[int]]:
        """Greedy tokens. A new request joins every second step, so most steps hold both prompts and answers."""
        waiting = [self.request(prompt, max_tokens) for prompt in prompts]
        requests = list(waiting)
        running: list[PagedRequest] = []
        step = 0
        while waiting or running:
            if waiting and step % 2 == 0:
                running.append(waiting.pop(0))
            self.step([(request, self.chunk(request)) for request in running])
            running = [request for request in running if len(request.output) < max_tokens]
            step += 1
        return [request.output for request in requests]

    def chunk(self, request: PagedRequest) -> int:
        return min(self.random.choice([1, 2, 5, 17, 23]), len(request.tokens) - request.num_computed)

    def step(self, chunks: list[tuple[PagedRequest, int]]) -> None:
        """Compute the next tokens of each request, and append the best token to those that have none left."""
        batch = self.batch(chunks)
        logits = self.model.logits(self.model.forward(batch), batch.logits_rows)
        for (request, num_tokens), row in zip(chunks, logits, strict=True):
            request.num_computed += num_tokens
            if request.num_computed == len(request.tokens):
                request.output.append(int(row.argmax()))

    def prompt_logits(self, prompt: list[int]) -> torch.Tensor:
        """Logits at every position of a prompt, computed in one chunk: [tokens, V]."""
        batch = self.batch([(self.request(prompt, 0), len(prompt))])
        rows = torch.arange(len(prompt), dtype=torch.int32)
        return self.model.logits(self.model.forward(batch), rows)

    def batch(self, chunks: list[tuple[PagedRequest, int]]) -> ForwardBatch:
        ids: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        starts = [0]
        for request, num_tokens in chunks:
            for position in range(request.num_computed, request.num_computed + num_tokens):
                ids.append(request.tokens[position])
                positions.append(position)
                block = request.block_table[position // self.block_size]
                slots.append(block * self.block_size + position % self.block_size)
            starts.append(len(ids))
        width = max(len(request.block_table) for request, _ in chunks)
        tables = [request.block_table + [-1] * (width - len(request.block_table)) for request, _ in chunks]
        return ForwardBatch(
            token_ids=_int32(ids),
            positions=_int32(positions),
            slot_mapping=_int32(slots),
            query_start_loc=_int32(starts),
            seq_lens=_int32([request.num_computed + num_tokens for request, num_tokens in chunks]),
            block_tables=_int32(tables),
            logits_rows=_int32([end - 1 for end in starts[1:]]),
            kv=self.kv,
        )


def _int32(values: list[Any]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


def load(path: Path, dtype: torch.dtype, format_of: FormatOf | None = None) -> Model:
    """kvik's model of a Hugging Face folder, its weights loaded."""
    model_file = open_model(str(path))
    model = build_model(model_file.spec, dtype, format_of=format_of)
    model.load(open_checkpoint(model_file))
    return model


@pytest.fixture
def driver(tmp_path: Path) -> Any:
    """`driver(dtype, format_of)`: a paged driver of the checkpoint in `tmp_path`."""
    return lambda dtype, format_of=None: PagedDriver(load(tmp_path, dtype, format_of))


@pytest.fixture
def paged_driver() -> type[PagedDriver]:
    return PagedDriver
