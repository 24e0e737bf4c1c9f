"""The adapters that this server serves by name. Knows no HTTP; the engine says whether a folder is a usable adapter."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kvik.config.lora import LoraModule
from kvik.errors import ConfigError, InvalidRequestError, RequestError, UnknownModelError
from kvik.messages import LoraRequest
from kvik.modelfile.adapter import CONFIG_FILE, WEIGHTS_FILE

if TYPE_CHECKING:
    from kvik.engine_client.protocol import EngineClient

MAX_SERVED = 4096
MAX_NAME_CHARS = 256
MAX_PATH_CHARS = 4096


@dataclass(frozen=True, slots=True)
class ServedAdapter:
    lora: LoraRequest
    parent: str
    """The model that it belongs to, as /v1/models names it."""


class AdapterRegistry:
    """Names -> adapters. Changes are made one at a time, so that two of one name cannot both be new."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client
        self._served: dict[str, ServedAdapter] = {}
        self._num_loads = 0
        self._changing = asyncio.Lock()

    @property
    def served(self) -> Sequence[ServedAdapter]:
        """In the order of their loading."""
        return tuple(self._served.values())

    def find(self, name: str | None) -> LoraRequest | None:
        served = self._served.get(name) if name else None
        return None if served is None else served.lora

    async def load_modules(self, modules: Sequence[LoraModule]) -> None:
        """What --lora-modules names. Raises `ConfigError`."""
        for module in modules:
            try:
                await self.load(module.name, module.path, parent=module.base_model_name)
            except RequestError as error:
                raise ConfigError(f"--lora-modules {module.name}={module.path}: {error.message}") from None

    async def load(self, name: str, path: str, *, in_place: bool = False, parent: str | None = None) -> None:
        """Serve the adapter of a folder under a name; `in_place`: also where the name has one, which it replaces.

        Running requests go on with what they began with. Raises `InvalidRequestError`, or `UnknownModelError` where
        there is no adapter.
        """
        self._check(name, path)
        async with self._changing:
            if name in self._served and not in_place:
                raise InvalidRequestError(
                    f"the adapter {name!r} is loaded already; unload it first, or set load_inplace", param="lora_name"
                )
            if len(self._served) >= MAX_SERVED:
                raise InvalidRequestError(f"{MAX_SERVED} adapters are loaded; unload one first", param="lora_name")
            await _check_folder(path)
            self._num_loads += 1
            lora = LoraRequest(name, self._num_loads, path)
            error = await self._client.add_lora(lora)
            if error is not None:
                raise InvalidRequestError(error, param="lora_path")
            before = self._served.get(name)
            self._served[name] = ServedAdapter(lora, parent or self._client.config.model.served_model_names[0])
            if before is not None:
                await self._client.remove_lora(before.lora)

    async def unload(self, name: str, int_id: int | None = None) -> None:
        """Running requests end as they would have. Raises `UnknownModelError`."""
        async with self._changing:
            served = self._served.get(name)
            if served is None or int_id not in (None, served.lora.lora_int_id):
                known = ", ".join(self._served) or "none"
                raise UnknownModelError(
                    f"no adapter {name[:200]!r} is loaded; loaded are: {known[:1000]}", param="lora_name"
                )
            del self._served[name]
            await self._client.remove_lora(served.lora)

    def _check(self, name: str, path: str) -> None:
        if self._client.config.lora is None:
            raise InvalidRequestError("this server has no room for adapters; start it with --enable-lora")
        if not 1 <= len(name) <= MAX_NAME_CHARS or not name.isprintable():
            raise InvalidRequestError(
                f"lora_name must have 1 to {MAX_NAME_CHARS} printable characters", param="lora_name"
            )
        if name in self._client.config.model.served_model_names:
            raise InvalidRequestError(f"{name!r} is the name of the model itself; choose another", param="lora_name")
        if not 1 <= len(path) <= MAX_PATH_CHARS or not path.isprintable():
            raise InvalidRequestError(
                f"lora_path must be a folder's path of 1 to {MAX_PATH_CHARS} characters", param="lora_path"
            )


async def _check_folder(path: str) -> None:
    """That there is an adapter at all; what is wrong with one is the engine's to say."""
    if not await asyncio.to_thread(_has_config, path):
        raise UnknownModelError(
            f"there is no LoRA adapter in {path[:200]!r}: a PEFT folder has {CONFIG_FILE} and {WEIGHTS_FILE}",
            param="lora_path",
        )


def _has_config(path: str) -> bool:
    try:
        return (Path(path) / CONFIG_FILE).is_file()
    except (OSError, ValueError):
        return False
