"""`--optimization-level`, `--compilation-config` and their short cuts: what is compiled and what is captured.

Reads the JSON object's keys and refuses what does not fit. Knows no device and no torch; the names are the interface's.

The levels, each with what the one before it has:

- 0: nothing is compiled or captured. `--enforce-eager` asks for the same.
- 1: what lies between the attention of two layers is captured as CUDA graphs.
- 2: batches of decoding requests are captured whole as well. The default: it starts fast, for nothing is compiled.
- 3: torch.compile works in the background while requests are served; what it makes is used if it is faster.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kvik.errors import ConfigError, NotSupportedYetError

LEVELS = ("0", "1", "2", "3")
CUDAGRAPH_MODES = ("NONE", "PIECEWISE", "FULL", "FULL_DECODE_ONLY", "FULL_AND_PIECEWISE")
MODES = ("NONE", "STOCK_TORCH_COMPILE", "DYNAMO_TRACE_ONCE", "VLLM_COMPILE")
"""By their numbers, which are accepted too."""
BACKENDS = ("inductor", "eager")
ATTENTION_OP = "kvik::attention"
MAX_CAPTURE_SIZE = 512
"""Tokens of the largest graph where nothing is said."""
_FLAG = "--compilation-config"
_GRAPHS_BY_LEVEL = ("NONE", "PIECEWISE", "FULL_AND_PIECEWISE", "FULL_AND_PIECEWISE")


@dataclass(frozen=True)
class CompilationConfig:
    """Complete and checked."""

    level: int = 2
    mode: str = "NONE"
    """What torch.compile does: "NONE", "DYNAMO_TRACE_ONCE" (one graph) or "VLLM_COMPILE" (split at `splitting_ops`)."""
    is_in_background: bool = False
    """Compiled while requests are served, and used if faster; else before the engine is ready, and used."""
    backend: str = "inductor"
    """"inductor" or "eager": the traced graph, as it is."""
    splitting_ops: tuple[str, ...] = ()
    """Ops that stand between two compiled pieces."""
    compile_sizes: tuple[int, ...] = ()
    """Numbers of tokens for which a graph of its own is compiled, beside the one for all."""
    inductor_compile_config: Mapping[str, Any] = field(default_factory=dict)
    """Options of inductor by name."""
    cache_dir: str = ""
    """Folder of compiled graphs; "": below the cache root."""
    cudagraph_mode: str = "FULL_AND_PIECEWISE"
    """One of CUDAGRAPH_MODES. PIECEWISE leaves attention out; FULL_AND_PIECEWISE: decode whole, others piecewise."""
    cudagraph_capture_sizes: tuple[int, ...] = ()
    """Numbers of tokens that are captured, ascending; batches are padded up to the next. () where none are."""

    @property
    def max_cudagraph_capture_size(self) -> int:
        """Tokens of the largest captured batch; 0 where none is."""
        return self.cudagraph_capture_sizes[-1] if self.cudagraph_capture_sizes else 0

    @property
    def compiles(self) -> bool:
        return self.mode != "NONE"


def compilation_config_of(
    asked: Mapping[str, Any] | None,
    *,
    level: str = "2",
    enforce_eager: bool = False,
    capture_sizes: Sequence[int] | None = None,
    max_capture_size: int | None = None,
    max_num_seqs: int,
    max_num_batched_tokens: int,
) -> CompilationConfig:
    """From the flags; the two numbers are the scheduler's. Raises `ConfigError`."""
    given = _merged(asked, capture_sizes, max_capture_size)
    _check_keys(given)
    _require(level in LEVELS, f"takes {_words(LEVELS)}, got {level!r}", "--optimization-level")
    _require(not (enforce_eager and level == "3"), "compiles nothing, but -O3 compiles: drop one", "--enforce-eager")
    number = 0 if enforce_eager else int(level)
    mode, splitting_ops = _mode(given, number)
    graphs = _name(given.get("cudagraph_mode", _GRAPHS_BY_LEVEL[number]), CUDAGRAPH_MODES, "cudagraph_mode")
    for key, value in (("mode", mode), ("cudagraph_mode", graphs)):
        _require(
            not (enforce_eager and value != "NONE"), f"{key!r} is {value}, but --enforce-eager asks for none: drop one"
        )
    sizes = _capture_sizes(given, min(2 * max_num_seqs, max_num_batched_tokens), max_num_batched_tokens)
    return CompilationConfig(
        level=number,
        mode=mode,
        is_in_background=mode != "NONE" and number == 3,
        backend=_name(given.get("backend") or "inductor", BACKENDS, "backend"),
        splitting_ops=splitting_ops,
        compile_sizes=_compile_sizes(given, sizes, max_num_batched_tokens),
        inductor_compile_config=_object(given, "inductor_compile_config"),
        cache_dir=_cache_dir(given),
        cudagraph_mode=graphs,
        cudagraph_capture_sizes=sizes if graphs != "NONE" else (),
    )


def default_capture_sizes(largest: int) -> tuple[int, ...]:
    """1, 2, 4, then steps of 8 up to 256, then of 16; `largest` is one of them."""
    steps = [1, 2, 4, *range(8, 256, 8), *range(256, largest + 1, 16)]
    return tuple(sorted({size for size in steps if size <= largest} | {largest}))


def _merged(
    asked: Mapping[str, Any] | None, capture_sizes: Sequence[int] | None, max_capture_size: int | None
) -> dict[str, Any]:
    _require(asked is None or isinstance(asked, Mapping), f"takes a JSON object, got {asked!r}")
    given = dict(asked or {})
    flags = (
        ("--cudagraph-capture-sizes", "cudagraph_capture_sizes", None if capture_sizes is None else [*capture_sizes]),
        ("--max-cudagraph-capture-size", "max_cudagraph_capture_size", max_capture_size),
    )
    for flag, key, value in flags:
        if value is not None:
            _require(
                given.get(key) in (None, value), f"{key!r} is {given.get(key)!r}, but {flag} is {value!r}: drop one"
            )
            given[key] = value
    return {key: value for key, value in given.items() if value is not None}


_KEYS = (
    "mode", "backend", "splitting_ops", "compile_sizes", "inductor_compile_config", "cache_dir", "cudagraph_mode",
    "cudagraph_capture_sizes", "max_cudagraph_capture_size",
)  # fmt: skip
_WITHOUT_MEANING: dict[str, tuple[Any, str]] = {
    "custom_ops": ([], "compiled graphs keep kvik's own attention and matrix products, and nothing else"),
    "compile_ranges_endpoints": ([], "one graph serves all numbers of tokens; 'compile_sizes' adds others"),
    "debug_dump_path": ("", "set TORCH_COMPILE_DEBUG=1 in the environment instead"),
    "pass_config": ({}, "there are no passes to choose"),
    "cudagraph_num_of_warmups": (0, "each graph is warmed up as it is captured"),
    "cudagraph_specialize_lora": (True, "steps without adapters always have graphs of their own"),
    "use_inductor_graph_partition": (False, "graphs are split before inductor sees them"),
    "dynamic_shapes_config": ({}, "numbers of tokens and requests are always dynamic"),
}
"""Keys of the interface that nothing here could honour: the value that asks for nothing, and why."""


def _check_keys(given: Mapping[str, Any]) -> None:
    for key, value in given.items():
        if key in _WITHOUT_MEANING:
            default, why = _WITHOUT_MEANING[key]
            _require(value == default, f"{key!r} has no meaning in kvik ({why}): leave it out")
        elif key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {_words(_KEYS)}"
            raise ConfigError(f"{_FLAG}: unknown key {key!r}; {hint}")


def _mode(given: Mapping[str, Any], level: int) -> tuple[str, tuple[str, ...]]:
    """The mode and the ops to split at. Level 3 splits where nothing is said: like layers are compiled once."""
    ops = given.get("splitting_ops")
    _require(
        ops is None or (isinstance(ops, list | tuple) and set(ops) <= {ATTENTION_OP}),
        f"'splitting_ops' takes [] (one graph) or [\"{ATTENTION_OP}\"], got {ops!r}",
    )
    if "mode" in given:
        mode = _numbered_mode(given["mode"])
    elif level == 3:
        mode = "VLLM_COMPILE" if ops is None or ops else "DYNAMO_TRACE_ONCE"
    else:
        mode = "NONE"
    if mode == "VLLM_COMPILE":
        return mode, (ATTENTION_OP,) if ops is None else tuple(ops)
    _require(not ops, f"'splitting_ops' needs 'mode' VLLM_COMPILE, which is {mode}")
    return mode, ()


def _numbered_mode(asked: Any) -> str:
    if isinstance(asked, int) and not isinstance(asked, bool) and 0 <= asked < len(MODES):
        asked = MODES[asked]
    mode = _name(asked, MODES, "mode", f" or 0 to {len(MODES) - 1}")
    if mode == "STOCK_TORCH_COMPILE":
        raise NotSupportedYetError(
            f"{_FLAG}: 'mode' {mode}", "it compiles anew for new shapes; take DYNAMO_TRACE_ONCE or VLLM_COMPILE"
        )
    return mode


def _capture_sizes(given: Mapping[str, Any], largest: int, limit: int) -> tuple[int, ...]:
    """`largest`: of the default; `limit`: tokens of the largest step."""
    most, sizes = given.get("max_cudagraph_capture_size"), given.get("cudagraph_capture_sizes")
    _require(most is None or _is_count(most), f"'max_cudagraph_capture_size' takes 1 or more, got {most!r}")
    if sizes is None:
        return default_capture_sizes(min(most or min(largest, MAX_CAPTURE_SIZE), limit))
    _require(
        isinstance(sizes, list | tuple) and len(sizes) > 0 and all(map(_is_count, sizes)),
        f"'cudagraph_capture_sizes' takes a list of numbers from 1, got {sizes!r}; for no graphs set 'cudagraph_mode' "
        "to NONE",
    )
    _require(
        most is None or max(sizes) == most,
        f"'max_cudagraph_capture_size' is {most}, but the largest of 'cudagraph_capture_sizes' is {max(sizes)}: drop "
        "the former",
    )
    _require(
        max(sizes) <= limit,
        f"'cudagraph_capture_sizes' has {max(sizes)}, but no step is longer than --max-num-batched-tokens {limit}",
    )
    return tuple(sorted(set(sizes)))


def _compile_sizes(given: Mapping[str, Any], capture_sizes: tuple[int, ...], limit: int) -> tuple[int, ...]:
    sizes = given.get("compile_sizes", [])
    _require(
        isinstance(sizes, list | tuple)
        and all(size == "cudagraph_capture_sizes" or (_is_count(size) and size <= limit) for size in sizes),
        f"'compile_sizes' takes a list of numbers of tokens from 1 to --max-num-batched-tokens {limit}, or "
        f'["cudagraph_capture_sizes"], got {sizes!r}',
    )
    named = capture_sizes if "cudagraph_capture_sizes" in sizes else ()
    return tuple(sorted({*named, *(size for size in sizes if size != "cudagraph_capture_sizes")}))


def _cache_dir(given: Mapping[str, Any]) -> str:
    folder = given.get("cache_dir", "")
    _require(isinstance(folder, str), f"'cache_dir' takes a folder, got {folder!r}")
    return str(folder)


def _object(given: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = given.get(key, {})
    _require(isinstance(value, Mapping), f"{key!r} takes a JSON object, got {value!r}")
    return dict(value)


def _name(asked: Any, names: tuple[str, ...], key: str, also: str = "") -> str:
    """In any case, as the interface takes it."""
    by_upper = {name.upper(): name for name in names}
    found = by_upper.get(asked.upper()) if isinstance(asked, str) else None
    if found is None:
        raise ConfigError(f"{_FLAG}: {key!r} takes {_words(names)}{also}, got {asked!r}")
    return found


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _require(holds: bool, message: str, flag: str = _FLAG) -> None:
    if not holds:
        raise ConfigError(f"{flag}: {message}")


def _words(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " or " + names[-1]
