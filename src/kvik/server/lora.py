"""POST /v1/load_lora_adapter and /v1/unload_lora_adapter: adapters that come and go while the server runs.

Only with KVIK_ALLOW_RUNTIME_LORA_UPDATING=1 (or VLLM_...): whoever may call them makes the server read folders, those
below --allowed-lora-path where that is given.
"""

from __future__ import annotations

import asyncio

from pydantic import ConfigDict, Field
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from kvik.errors import InvalidRequestError
from kvik.modelfile.adapter import CONFIG_FILE, WEIGHTS_FILE
from kvik.server.body import read_model
from kvik.server.confined import confine
from kvik.server.state import state_of
from kvik.server.validation import RequestModel


class LoadLoraAdapterRequest(RequestModel):
    """A PEFT folder on the server's disk, and the name to serve it under."""

    model_config = ConfigDict(extra="ignore")

    lora_name: str = Field(description="what requests call it in their field model")
    lora_path: str = Field(description="a folder with adapter_config.json and adapter_model.safetensors")
    load_inplace: bool = Field(False, description="replace the adapter that has this name")
    is_3d_lora_weight: bool = Field(False, description="not supported: for mixtures of experts")


class UnloadLoraAdapterRequest(RequestModel):
    """An adapter by its name."""

    model_config = ConfigDict(extra="ignore")

    lora_name: str
    lora_int_id: int | None = Field(None, description="only if its load had this number")


async def load_lora_adapter(request: Request) -> Response:
    """Answers once the adapter has been read and can be used."""
    state = state_of(request)
    body = await read_model(request, LoadLoraAdapterRequest, state.limits)
    if body.is_3d_lora_weight:
        raise InvalidRequestError("is_3d_lora_weight is not supported; leave it out", param="is_3d_lora_weight")
    roots = state.config.access.allowed_lora_path
    path = await asyncio.to_thread(confine, body.lora_path, roots, (CONFIG_FILE, WEIGHTS_FILE))
    await state.adapters.load(body.lora_name, path, in_place=body.load_inplace)
    return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' added successfully.")


async def unload_lora_adapter(request: Request) -> Response:
    """Requests that run with the adapter go on to their end."""
    state = state_of(request)
    body = await read_model(request, UnloadLoraAdapterRequest, state.limits)
    await state.adapters.unload(body.lora_name, body.lora_int_id)
    return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' removed successfully.")
