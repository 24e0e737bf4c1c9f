"""A model whose forward pass torch.compile has made: one graph, or pieces between attentions, for any number of tokens.

Knows no requests and no device. Importing it loads the compiler, so it is imported where something is compiled.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch._dynamo.utils import counters
from torch._inductor.compile_fx import compile_fx
from torch.fx import GraphModule

from kvik.compilation.cache import direct_caches
from kvik.compilation.ops import FUNCTIONS, AttentionPoints, enter_group
from kvik.compilation.pieces import compile_pieces, num_pieces
from kvik.config.compilation import CompilationConfig
from kvik.errors import ConfigError
from kvik.layers.batch import ForwardBatch
from kvik.models import Model

_EXAMPLE_TOKENS = 2
"""Of the trace; 0 and 1 would be taken for numbers that never change."""


class CompilationError(RuntimeError):
    """The model cannot be compiled here; says why, in one line."""


@dataclass(frozen=True)
class CompileReport:
    """What a compilation came to."""

    seconds: float
    num_graphs: int
    num_from_cache: int
    """Graphs that the disk held already."""


class CompiledPass:
    """Stands where the model would. `compile` comes first."""

    def __init__(self, model: Model, config: CompilationConfig) -> None:
        """Raises `ConfigError` for an option that inductor does not have."""
        self._model = model
        self._config = config
        self._options = options_of(config)
        self._points = AttentionPoints(model.attentions, model.attentions[0].width)
        enter_group(model.group)
        self._is_dry = False
        self._any_size = self._torch_compiled()
        self._by_size = {size: self._torch_compiled() for size in config.compile_sizes}

    @property
    def spec(self) -> Any:
        return self._model.spec

    @property
    def attentions(self) -> Any:
        return self._model.attentions

    @property
    def compute_dtype(self) -> torch.dtype:
        return self._model.compute_dtype

    def compile(self) -> CompileReport:
        """Trace and compile, or find on disk what was compiled before. No kernel runs. Raises `CompilationError`."""
        started, before = time.perf_counter(), _num_cached()
        self._num_graphs = 0
        self._is_dry = True
        try:
            direct_caches(self._config.cache_dir)
            self._any_size(self._example(_EXAMPLE_TOKENS, is_dynamic=True))
            for size, compiled in self._by_size.items():
                compiled(self._example(size, is_dynamic=False))
        except Exception as error:  # of dynamo, inductor, the C++ compiler or the disk: none of them may end a service
            raise CompilationError(_reason(error)) from error
        finally:
            self._is_dry = False
        return CompileReport(time.perf_counter() - started, self._num_graphs, _num_cached() - before)

    def forward(self, batch: ForwardBatch) -> torch.Tensor:
        """As `Model.forward`. Rows with adapters are computed call by call."""
        if batch.lora_slots is not None:
            return self._model.forward(batch)
        compiled = self._by_size.get(batch.token_ids.shape[0], self._any_size)
        self._points.batch = batch
        try:
            hidden: torch.Tensor = compiled(batch.token_ids)
        finally:
            self._points.batch = None
        return hidden

    def logits(self, hidden: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """As `Model.logits`, which is one product and is not compiled."""
        return self._model.logits(hidden, rows)

    def _torch_compiled(self) -> Callable[[torch.Tensor], torch.Tensor]:
        model, at_attention = self._model, self._points.at_attention

        def forward(token_ids: torch.Tensor) -> torch.Tensor:
            unread = token_ids  # only attention reads the rest of a batch, and it is given the real one
            return model.forward(
                ForwardBatch(
                    token_ids, unread, unread, unread, unread, unread, unread, [], at_attention=at_attention
                )
            )  # fmt: skip

        forward.__code__ = forward.__code__.replace()  # dynamo counts recompilations by code object
        return torch.compile(forward, fullgraph=True, backend=self._backend, options={"guard_filter_fn": _no_guards})

    def _backend(self, graph: GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        """What dynamo calls with its trace."""
        split_at = self._config.splitting_ops
        self._num_graphs += num_pieces(graph, split_at)
        compiled = (
            compile_pieces(graph, {op: FUNCTIONS[op] for op in split_at}, self._compile_piece)
            if split_at
            else self._compile_piece(graph, inputs)
        )
        dry_result = (torch.empty(0),)

        def call(*args: Any) -> Any:
            return dry_result if self._is_dry else compiled(*args)

        return call

    def _compile_piece(self, graph: GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        if self._config.backend == "eager":
            return graph.forward
        made: Any = compile_fx(graph, list(inputs), config_patches=self._options or None)
        return cast("Callable[..., Any]", made)

    def _example(self, num_tokens: int, *, is_dynamic: bool) -> torch.Tensor:
        ids = torch.zeros(num_tokens, dtype=torch.int32, device=self._model.norm.weight.device)
        if is_dynamic:
            torch._dynamo.mark_dynamic(ids, 0)
        return ids


def _no_guards(guards: Sequence[Any]) -> list[bool]:
    """Nothing that dynamo would look at before each call can change: weights stay where they are."""
    return [False] * len(guards)


def options_of(config: CompilationConfig) -> dict[str, Any]:
    """What inductor is told. Raises `ConfigError`."""
    options = {key.replace("-", "_"): value for key, value in config.inductor_compile_config.items()}
    known = set(torch._inductor.list_options())
    for key in options:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise ConfigError(
                f"--compilation-config: 'inductor_compile_config' has {key!r}, which inductor has not"
                + (f"; did you mean {near[0]!r}?" if near else ": leave it out")
            )
    return options


def _num_cached() -> int:
    return int(counters["inductor"]["fxgraph_cache_hit"])


def _reason(error: BaseException) -> str:
    """The innermost error's first line."""
    while (cause := getattr(error, "inner_exception", None) or error.__cause__) is not None:
        error = cause
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
