"""Which attention computes: our own kernels, torch's, or a library that is installed. Knows no configuration.

All take the arguments of `paged_attention` and the caches of `allocate_kv_cache`, and may stand in for each other.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from kvik.kernels import launch
from kvik.kernels.paged_attention import paged_attention
from kvik.kernels.paged_attention.flash_attention import FlashAttention2, FlashAttention3
from kvik.kernels.paged_attention.flash_infer import FlashInfer
from kvik.kernels.paged_attention.sdpa import torch_sdpa


class PagedAttention(Protocol):
    def __call__(
        self,
        q: Tensor,
        k_cache: Tensor,
        v_cache: Tensor,
        block_tables: Tensor,
        query_start_loc: Tensor,
        seq_lens: Tensor,
        *,
        num_kv_heads: int,
        head_dim: int,
        scale: float,
        window: int = 0,
        max_query_len: int | None = None,
        k_scale: float = 1.0,
        v_scale: float = 1.0,
    ) -> Tensor:
        """See `paged_attention`."""


@dataclass(frozen=True)
class Work:
    """What attention will be asked for."""

    on_gpu: bool
    dtype: torch.dtype
    """Of queries."""
    cache_dtype: torch.dtype
    head_dim: int
    block_size: int


@dataclass(frozen=True)
class Backend:
    name: str
    """As --attention-backend has it."""
    attend: PagedAttention
    """Its own for each set of caches."""
    is_capturable: bool
    """Whether a launch depends on sizes alone, so that CUDA graphs of whole steps may hold it."""
    potential: tuple[str, ...]
    """All that could have been asked for here."""


OWN = {False: "CPU_ATTN", True: "TRITON_ATTN"}
"""What is taken on a CPU and on a GPU where nothing is asked for."""
PACKAGES = {"FLASH_ATTN": ("flash_attn_interface", "flash_attn"), "FLASHINFER": ("flashinfer",)}
"""Modules of which one must be there, the better one first."""
PIP_NAMES = {"FLASH_ATTN": "flash-attn", "FLASHINFER": "flashinfer-python"}


def choose(asked: str | None, work: Work) -> Backend:
    """The backend that was asked for, or our own kernels. Raises ValueError, with the reason, where it cannot be."""
    name = asked or OWN[work.on_gpu]
    why_not = misfit(name, work)
    if why_not:
        raise ValueError(why_not)
    potential = tuple(n for n in (OWN[work.on_gpu], "FLASH_ATTN", "FLASHINFER", "TORCH_SDPA") if not misfit(n, work))
    attend = _attend_of(name)
    return Backend(name, attend, is_capturable=name in ("TRITON_ATTN", "FLASH_ATTN"), potential=potential)


def describe(backend: Backend) -> str:
    """The line of the log."""
    return f"Using {backend.name} attention backend out of potential backends: {', '.join(backend.potential)}."


def misfit(name: str, work: Work) -> str:
    """Why this backend cannot do this work; "" where it can."""
    if work.cache_dtype is torch.float8_e4m3fn and launch.lacks_fp8():
        major, minor = launch.capability()
        return (
            f"keys and values of fp8 (e4m3) need a GPU of sm_89 or above, this one is sm_{major}{minor}: take "
            "fp8_e5m2, which is as small, or auto"
        )
    place = "a GPU" if work.on_gpu else "the CPU"
    if name == "TORCH_SDPA" or name == OWN[work.on_gpu]:
        return ""
    if name not in (*OWN.values(), *PACKAGES):
        return f"there is no attention backend {name}"
    if not work.on_gpu or name == "CPU_ATTN":
        other = "the CPU" if name == "CPU_ATTN" else "a GPU"
        return f"{name} computes on {other}, and this engine on {place}: take {OWN[work.on_gpu]} or TORCH_SDPA"
    module = installed(name)
    if module is None:
        return f"{name} needs the package {PIP_NAMES[name]}, which is not installed: install it, or take TRITON_ATTN"
    return _misfit_of_library(name, module, work)


def installed(name: str) -> str | None:
    """The module of this backend's package that would be used; nothing is imported."""
    return next((module for module in PACKAGES[name] if importlib.util.find_spec(module) is not None), None)


def _misfit_of_library(name: str, module: str, work: Work) -> str:
    instead = "take TRITON_ATTN"
    if work.dtype not in (torch.float16, torch.bfloat16):
        return f"{name} computes in float16 or bfloat16, this model in {_name(work.dtype)}: {instead}"
    sizes = (64, 128, 256) if name == "FLASHINFER" else range(8, 257, 8)
    if work.head_dim not in sizes:
        could = "64, 128 or 256" if name == "FLASHINFER" else "a multiple of 8, at most 256,"
        return f"{name} takes heads of {could} dimensions, this model's have {work.head_dim}: {instead}"
    if name == "FLASHINFER":
        return ""
    if work.cache_dtype is not work.dtype:
        wanted, given = _name(work.dtype), _name(work.cache_dtype)
        return f"{name} takes keys and values of {wanted}, as the model is, not {given}: {instead}"
    if module == "flash_attn" and work.block_size % 256:
        return (
            f"{name} of the package flash-attn 2 takes KV blocks of multiples of 256 tokens, not {work.block_size}: "
            f"start with --block-size 256, install flash-attn 3, or {instead}"
        )
    return ""


def _attend_of(name: str) -> PagedAttention:
    if name == "TORCH_SDPA":
        return torch_sdpa
    if name == "FLASHINFER":
        return FlashInfer()
    if name == "FLASH_ATTN":
        return FlashAttention3() if installed(name) == "flash_attn_interface" else FlashAttention2()
    return paged_attention


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
