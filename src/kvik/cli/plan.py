"""`kvik plan [MODEL] [engine flags]`: what a model would take and how much of it would fit. Loads nothing, needs no
device and no torch; only --measure computes, and brings it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from kvik.cli.help import help_text
from kvik.config.args import AsyncEngineArgs
from kvik.config.flags import Flag, flag, flags_of
from kvik.config.not_yet import NOT_YET
from kvik.config.parser import Parser
from kvik.errors import ConfigError

if TYPE_CHECKING:
    from kvik.config.engine import EngineConfig
    from kvik.modelfile import ModelFile
    from kvik.plan.memory_plan import Device, Outcome
    from kvik.plan.speed import MachineSpeed

USAGE = "kvik plan [MODEL] [flags of the engine, as kvik serve has them]"
HELP = Flag(
    "help", "str", None, "common flags; --help=all, --help=GROUP, --help=WORD for others", "Plan", aliases=("-h",)
)
GROUP = "Plan"
EXIT_DOES_NOT_FIT = 1


@dataclass(frozen=True, kw_only=True)
class PlanArgs:
    json: bool = flag(False, "print JSON instead of a table", group=GROUP, kind="switch", common=True)
    activation_memory: int | None = flag(
        None, "what a step and the framework take, where it was measured, such as 0.97GiB; unset: computed",
        group=GROUP, kind="memory", common=True,
    )  # fmt: skip
    graph_memory: int | None = flag(
        None, "what captured graphs take, such as 0.69GiB; only a GPU has any", group=GROUP, kind="memory", common=True
    )
    measure: bool = flag(
        False, "measure how fast this machine reads and multiplies, in 2 s, and keep it for estimates of speed",
        group=GROUP, kind="switch", common=True,
    )  # fmt: skip
    memory_bandwidth: int | None = flag(
        None, "bytes per second that the device reads, such as 300GB, for the estimates of speed", group=GROUP,
        kind="memory",
    )  # fmt: skip
    tflops: float | None = flag(
        None, "floating-point operations per second of the device, in 10^12, for the estimates of speed", group=GROUP
    )


def plan_flags() -> tuple[Flag, ...]:
    return (HELP, *flags_of(PlanArgs), *flags_of(AsyncEngineArgs))


def run(words: Sequence[str]) -> int:
    """Exit code 0 where the plan fits, 1 where it does not."""
    flags = plan_flags()
    parsed = Parser([*flags, *(f for f in NOT_YET if f.name not in {own.name for own in flags})]).parse(words)
    if parsed.help is not None:
        from kvik.config.catalog import GROUPS

        groups = {GROUP: "what to plan for"} | {f.group: GROUPS[f.group] for f in flags if f.group in GROUPS}
        print(help_text(USAGE, flags, groups, parsed.help))
        return 0
    if len(parsed.positionals) > 1:
        raise ConfigError(f"one MODEL, please; got {', '.join(parsed.positionals)}")
    values = dict(parsed.values)
    if parsed.positionals:
        values["model_tag"] = parsed.positionals[0]
    _refuse_unbuilt(values)
    own = {f.name for f in fields(PlanArgs)}
    return _plan(PlanArgs(**{name: value for name, value in values.items() if name in own}), values)


def _refuse_unbuilt(values: Mapping[str, Any]) -> None:
    """Flags that a server knows but does not have change no plan: say so rather than plan what cannot be."""
    from kvik.config.not_yet import refuse_unsupported

    names = {f.name for f in plan_flags()}
    refuse_unsupported(values, [f for f in NOT_YET if f.name not in names])


def _plan(own: PlanArgs, values: Mapping[str, Any]) -> int:
    # Imported here: help and mistakes need neither msgspec nor the checkpoint readers.
    from kvik.plan.explanation import plan_text
    from kvik.plan.memory_plan import compute
    from kvik.plan.report import report
    from kvik.plan.stored import stored_weights

    asked = AsyncEngineArgs.from_cli_args(values)
    model_file = open_for_plan(asked)
    alone = replace(asked, device="auto", tensor_parallel_size=1, distributed_executor_backend=None)
    config = alone.create_engine_config(model_file)  # that a model cannot be shared is an outcome of the plan
    device = device_of(own, asked, config)
    stored = stored_weights(None if asked.load_format == "dummy" else model_file)
    outcome = compute(config, stored, device)
    speed = _speed(own, asked, outcome)
    if own.json:
        print(json.dumps(report(outcome, stored, speed), indent=2))
    else:
        no_speed = {} if device.kind == "cpu" else {"no_speed": _OF_ANOTHER}
        print(plan_text(outcome, stored, speed, **no_speed))
    return 0 if outcome.fits else EXIT_DOES_NOT_FIT


_OF_ANOTHER = "Speed: say what the device does, --memory-bandwidth 300GB and --tflops 60, for an estimate."


def open_for_plan(args: AsyncEngineArgs) -> ModelFile:
    """Like a server opens it; a config.json without its folder will do. Raises `ConfigError` or `ModelFileError`."""
    from kvik.modelfile import open_config

    if args.model is not None and args.model.endswith(".json"):
        return open_config(args.model)
    return args.open_model()


def device_of(own: PlanArgs, asked: AsyncEngineArgs, config: EngineConfig) -> Device:
    """This machine, or the one that --device-memory names. Raises `ConfigError`."""
    from kvik.config.device_kind import check_device_kind
    from kvik.plan.formats import has_native_kernels
    from kvik.plan.memory_plan import Device

    if asked.tensor_parallel_size < 1:
        raise ConfigError(f"--tensor-parallel-size takes 1 or more, got {asked.tensor_parallel_size}")
    kind = asked.device if asked.device != "auto" else "cpu" if own.graph_memory is None else "cuda"
    if kind == "cpu" and own.graph_memory is not None:
        raise ConfigError("--graph-memory is of a GPU: a CPU captures no graphs; leave it or --device cpu out")
    if kind == "cuda" and asked.device_memory is None:
        raise ConfigError("the memory of another device must be named: --device-memory 24GiB")
    check_device_kind(config, kind)
    total = asked.device_memory
    return Device(
        total_bytes=_this_machine_bytes() // asked.tensor_parallel_size if total is None else total,
        kind=kind,
        num_devices=asked.tensor_parallel_size,
        native=has_native_kernels(),
        activations_bytes=own.activation_memory,
        graphs_bytes=own.graph_memory or 0,
    )


def _this_machine_bytes() -> int:
    """What a server that is started now would find, its other process counted."""
    from kvik.plan.step_memory import API_PROCESS_BYTES, usable_memory_bytes
    from kvik.platforms import cpu

    unused = cpu.available_memory_bytes() + cpu.resident_memory_bytes() - API_PROCESS_BYTES
    return usable_memory_bytes(cpu.total_memory_bytes(), max(0, unused))


def _speed(own: PlanArgs, asked: AsyncEngineArgs, outcome: Outcome) -> MachineSpeed | None:
    """As said, as measured, or as remembered."""
    from kvik.plan.speed import MachineSpeed
    from kvik.plan.speed_file import remember_speed, remembered_speed

    _check_rates(own)
    if own.memory_bandwidth is not None or own.tflops is not None:
        reads = {} if own.memory_bandwidth is None else {"": float(own.memory_bandwidth)}
        products = {} if own.tflops is None else {"": own.tflops * 1e12 / 2}
        return MachineSpeed(reads, products, "--memory-bandwidth and --tflops")
    if outcome.device.kind != "cpu":
        if own.measure:
            raise ConfigError(
                "--measure is of this machine's CPU; of another device say --memory-bandwidth and --tflops"
            )
        return None
    remembered = remembered_speed()
    if not own.measure:
        return remembered
    speed = _measure(asked, outcome)
    remember_speed(speed if remembered is None else remembered.merged(speed))
    return speed


def _check_rates(own: PlanArgs) -> None:
    if own.tflops is not None and not 0 < own.tflops < 1e6:
        raise ConfigError(f"--tflops takes a number above 0, got {own.tflops}")


def _measure(asked: AsyncEngineArgs, outcome: Outcome) -> MachineSpeed:
    from kvik.platforms.cpu import num_cores
    from kvik.runner.machine_speed import measure_speed  # brings torch

    print("measuring this machine...", file=sys.stderr, flush=True)
    formats = sorted(outcome.weights.product_bytes_by_format)
    return measure_speed(formats, asked.cpu_threads or num_cores())
