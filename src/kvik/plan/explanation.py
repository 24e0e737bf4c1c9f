"""A plan as lines of text for people: aligned columns, no colour. What a failed start prints, and `kvik plan`."""

from __future__ import annotations

from collections.abc import Sequence

from kvik.config.device_kind import name_of
from kvik.plan.kv_cache import in_gib
from kvik.plan.memory_plan import Outcome
from kvik.plan.report import requests_by_context
from kvik.plan.speed import MachineSpeed, estimate
from kvik.plan.weights import StoredWeights
from kvik.plan.what_if import Variant, largest_context, needed_device_bytes, remedies, variants

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_NO_SPEED = "Speed: this machine has not been measured; --measure does it in 2 s."


def explanation(outcome: Outcome, stored: StoredWeights) -> str:
    """Where the memory goes, and what would fit."""
    return "\n".join([*memory_lines(outcome), *kv_lines(outcome), "", *remedy_lines(outcome, stored)])


def plan_text(outcome: Outcome, stored: StoredWeights, speed: MachineSpeed | None, *, no_speed: str = _NO_SPEED) -> str:
    """All that `kvik plan` says; `no_speed` stands where `speed` is None."""
    lines = [*title_lines(outcome), "", *memory_lines(outcome), *kv_lines(outcome), "", *fit_lines(outcome, stored)]
    if not outcome.fits:
        lines += remedy_lines(outcome, stored)
    lines += ["", "What other flags would change, one at a time:", *what_if_lines(variants(outcome, stored)), ""]
    lines += [no_speed] if speed is None else speed_lines(outcome, speed)
    return "\n".join(lines)


def title_lines(outcome: Outcome) -> list[str]:
    model, device = outcome.config.model, outcome.device
    kept = f"{model.dtype}, --quantization {model.quantization}" if model.quantization else model.dtype
    shared = f", one of {device.num_devices} that share the model" if device.num_devices > 1 else ""
    return [
        f"{model.served_model_names[0]}: {model.spec.architecture}, {outcome.num_parameters / 1e9:.2f} billion "
        f"parameters, {kept}",
        f"Device: {size(device.total_bytes)} ({device.kind}){shared}",
    ]


def memory_lines(outcome: Outcome) -> list[str]:
    budget, cache = outcome.budget, outcome.config.cache
    by_format = sorted(outcome.weights.bytes_by_format.items(), key=lambda item: -item[1])
    formats = ", ".join(f"{fmt} {size(num_bytes)}" for fmt, num_bytes in by_format)
    rows = [
        ("to be used", in_gib(budget.requested_bytes), f"{in_gib(budget.total_bytes)} x {budget.utilization:.2f}"),
        ("weights", in_gib(-budget.weights_bytes), formats),
        ("activations", in_gib(-budget.activations_bytes), "of the largest step, and the framework"),
    ]
    if budget.graphs_bytes:
        rows.append(("graphs", in_gib(-budget.graphs_bytes), ""))
    if budget.adapters_bytes:
        rows.append(("LoRA adapters", in_gib(-budget.adapters_bytes), ""))
    asked = ""
    if cache.num_blocks_override is not None:
        asked = "but --num-gpu-blocks-override says how many blocks"
    elif cache.kv_cache_memory_bytes is not None:
        asked = "--kv-cache-memory-bytes, in place of what is left"
    rows.append(("KV cache", in_gib(outcome.available_bytes), asked))
    return [_row(*row) for row in rows]


def kv_lines(outcome: Outcome) -> list[str]:
    kv = outcome.kv
    concurrency = f"{kv.max_concurrency:.2f}x"
    return [
        _row("KV per token", size(outcome.kv_bytes_per_token), name_of(outcome.kv_dtype)),
        _row("KV per block", size(kv.block_bytes), f"{kv.block_size} tokens"),
        _row("blocks", f"{kv.num_blocks:,}", ""),
        _row("tokens", f"{kv.num_tokens:,}", ""),
        _row("max concurrency", concurrency, f"at {kv.max_model_len:,} tokens per request (--max-model-len)"),
    ]


def fit_lines(outcome: Outcome, stored: StoredWeights) -> list[str]:
    if outcome.problem is not None:
        return [f"This cannot be: {outcome.problem}."]
    counted = requests_by_context(outcome)
    most, limit = outcome.config.model.spec.max_position_embeddings, outcome.config.scheduler.max_num_seqs
    largest = largest_context(outcome, stored)
    whose = ", all that the model was made for" if largest == most else ""
    lines = [f"Largest context that fits: {largest:,} tokens{whose}."]
    if counted:
        pairs = ", ".join(f"{entry['num_requests']:,} of {entry['num_tokens']:,}" for entry in counted)
        lines.append(f"Requests that fit at once, by tokens: {pairs} (--max-num-seqs lets {limit} run).")
    return lines


def remedy_lines(outcome: Outcome, stored: StoredWeights) -> list[str]:
    """What would make it fit; one line where it does."""
    if outcome.fits:
        return ["It fits."]
    if outcome.problem is not None:
        return []
    found = remedies(outcome, stored)
    lines = [f"A request of {outcome.kv.max_model_len:,} tokens does not fit."]
    if not outcome.config.cache.is_sized_by_number:
        lines[0] += f" It would as it is on a device with {size(needed_device_bytes(outcome), up=True)}."
    if not found:
        return [*lines, "No flag makes it fit here: take a smaller model, or one that is quantised."]
    width = max(len(variant.text) for variant in found)
    lines.append("Each of these makes it fit by itself:" if len(found) > 1 else "This makes it fit:")
    return lines + [f"  {variant.text:<{width}}  {_outcome_text(variant.outcome)}" for variant in found]


def _outcome_text(outcome: Outcome) -> str:
    kv = outcome.kv
    return f"{kv.num_tokens:,} tokens, {kv.max_concurrency:.2f}x at {kv.max_model_len:,}"


def what_if_lines(found: Sequence[Variant]) -> list[str]:
    heads = ("flag", "weights", "KV/token", "blocks", "tokens", "concurrency", "")
    rows = [heads, *(_what_if_row(variant) for variant in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads) - 1)]
    return ["  " + "  ".join([_aligned(row, widths), row[-1]]).rstrip() for row in rows]


def _what_if_row(variant: Variant) -> tuple[str, ...]:
    found = variant.outcome
    if found.problem is not None:
        return (variant.text, "", "", "", "", "", f"not possible: {found.problem}")
    kv = found.kv
    return (
        variant.text, in_gib(found.budget.weights_bytes), size(found.kv_bytes_per_token), f"{kv.num_blocks:,}",
        f"{kv.num_tokens:,}", f"{kv.max_concurrency:.2f}x", "" if found.fits else "does not fit",
    )  # fmt: skip


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    first = f"{row[0]:<{widths[0]}}"
    return "  ".join([first, *(f"{cell:>{width}}" for cell, width in zip(row[1:-1], widths[1:], strict=True))])


def speed_lines(outcome: Outcome, speed: MachineSpeed) -> list[str]:
    found = estimate(outcome, speed)
    figures = [
        ("decode, one request", found.decode_one_request),
        (f"decode, one request at {outcome.kv.max_model_len:,} tokens", found.decode_one_long_request),
        (f"decode, {found.num_full_requests} requests of that length together", found.decode_full),
        ("prefill", found.prefill),
    ]
    known = [f"  {what:<44} {rate:>10,.0f} tokens/s" for what, rate in figures if rate is not None]
    if not known:
        return ["Speed: not measured for this model's formats; --measure does it in 2 s."]
    return [f"Speed, an estimate from {found.source}; real figures are lower:", *known]


def _row(what: str, number: str, remark: str) -> str:
    return f"  {what:<16} {number:>12}  {remark}".rstrip()


def size(num_bytes: int, *, up: bool = False) -> str:
    """In the largest unit of which there is one; two decimals at most, and none for whole numbers. `up`: rounded up."""
    power = 0
    while num_bytes >= 1024 ** (power + 1) and power + 1 < len(_UNITS):
        power += 1
    hundredths = -(-num_bytes * 100 // 1024**power) if up else round(num_bytes * 100 / 1024**power)
    return f"{hundredths / 100:.2f}".rstrip("0").rstrip(".") + f" {_UNITS[power]}"
