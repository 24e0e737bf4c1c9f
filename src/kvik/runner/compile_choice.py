"""What the configuration asks of torch.compile, begun: nothing, a compilation before ready, or in the background."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import cast

import torch

from kvik.compilation.cache import cache_folder
from kvik.config.compilation import CompilationConfig
from kvik.errors import ConfigError
from kvik.kernels.lazy import LazyModule
from kvik.layers.batch import ForwardBatch
from kvik.models import Model
from kvik.runner.compiled_model import BackgroundCompilation, Filling, log_compiled, warn_not_compiled
from kvik.runner.cuda_graphs import GraphedForward
from kvik.runner.device import ForwardPass
from kvik.runner.gpu import Gpu
from kvik.telemetry.log import get_logger

logger = get_logger(__name__)

compiled_pass = LazyModule("kvik.compilation.compiled_pass")
fill_cache = LazyModule("kvik.compilation.fill_cache")


def with_compilation(
    config: CompilationConfig,
    model: Model,
    running: ForwardPass,
    max_positions: int,
    trials: Sequence[Callable[[], ForwardBatch]],
) -> ForwardPass:
    """`running`, or what has its place. Raises `ConfigError` for an option that inductor does not have."""
    if not config.compiles:
        return running
    _check_and_log(config)
    if config.is_in_background:
        filling = _begin_filling(config, model, max_positions)
        alone = model.group.size == 1  # else others would have to measure the same steps
        return BackgroundCompilation(
            running, filling, lambda: _load(config, model), trials, steps_contend=alone, group=model.group
        )
    return _loaded(config, model) or running


def compiling_beside_graphs(
    config: CompilationConfig,
    model: Model,
    running: GraphedForward,
    max_positions: int,
    trials: Sequence[Callable[[], ForwardBatch]],
    graphed: Callable[[Model], GraphedForward],
    gpu: Gpu,
) -> ForwardPass:
    """`running`, until graphs of the compiled model, by `graphed`, are found faster.

    They are captured and compared in idle moments alone: a step that was measured would be waited for. Raises
    `ConfigError` for an option that inductor does not have, or graphs that cannot be captured.
    """
    _require_pieces(config)
    _check_and_log(config)

    def load() -> ForwardPass:
        gpu.enter_thread()
        return graphed(cast("Model", _load(config, model)))

    def capture_next(challenger: ForwardPass) -> bool:
        return cast("GraphedForward", challenger).capture_one_of(running.captured)

    return BackgroundCompilation(
        running, _begin_filling(config, model, max_positions), load, trials, prepare=capture_next, steps_contend=False,
        synchronize=gpu.synchronize, group=model.group,
    )  # fmt: skip


def compiled_for_graphs(config: CompilationConfig, model: Model) -> Model:
    """What has the model's place where its passes are captured: compiled before that, or the model itself.

    Raises `ConfigError` for an option that inductor does not have, or graphs that cannot be captured.
    """
    if not config.compiles or config.is_in_background:
        return model
    _require_pieces(config)
    _check_and_log(config)
    return cast("Model", _loaded(config, model) or model)


def _require_pieces(config: CompilationConfig) -> None:
    if "PIECEWISE" in config.cudagraph_mode and not config.splitting_ops:
        raise ConfigError(
            f"--compilation-config: 'mode' {config.mode} makes one graph of a step, but 'cudagraph_mode' "
            f"{config.cudagraph_mode} captures pieces of it: take 'mode' VLLM_COMPILE, or 'cudagraph_mode' "
            "FULL_DECODE_ONLY"
        )


def _check_and_log(config: CompilationConfig) -> None:
    if config.inductor_compile_config:
        compiled_pass.options_of(config)
    logger.info("Using cache directory: %s for torch.compile", cache_folder(config.cache_dir))


def _loaded(config: CompilationConfig, model: Model) -> ForwardPass | None:
    """The compiled pass, or None, with a warning."""
    try:
        return _load(config, model)
    except RuntimeError as error:
        warn_not_compiled(str(error))
        return None


def _load(config: CompilationConfig, model: Model) -> ForwardPass:
    """Raises RuntimeError where the model cannot be compiled."""
    compiled = compiled_pass.CompiledPass(model, config)
    log_compiled(compiled.compile())
    return cast("ForwardPass", compiled)


def _begin_filling(config: CompilationConfig, model: Model, max_positions: int) -> Filling | None:
    """None where no other process can be had: then the thread compiles."""
    request = fill_cache.FillRequest(
        model.spec, _name(model.dtype), _name(model.compute_dtype), str(model.norm.weight.device), max_positions,
        model.formats, config, torch.get_num_threads(), model.group.rank, model.group.size,
    )  # fmt: skip
    try:
        filling: Filling = fill_cache.CacheFiller(request)
    except OSError as error:
        logger.warning("No process to compile in could be started: %s", os.strerror(error.errno or 0))
        return None
    return filling


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
