"""`instructor`: typed answers by schema and by a forced call."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from support.server import MODEL, KvikServer

ASK: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "temperature": 0,
    "max_tokens": 200,
    "max_retries": 0,
}


class City(BaseModel):
    """A city of the world."""

    model_config = ConfigDict(extra="forbid")  # else the model adds fields without end

    name: Literal["Paris", "Rome"]
    num_rivers: int = Field(ge=0, le=9)


def test_by_schema(structured: KvikServer) -> None:
    import instructor

    with structured.client() as client:
        asking = instructor.from_openai(client, mode=instructor.Mode.JSON_SCHEMA)
        assert 0 <= asking.chat.completions.create(**ASK, response_model=City).num_rivers <= 9


def test_by_a_forced_call(tool_server: KvikServer) -> None:
    import instructor

    with tool_server.client() as client:
        asking = instructor.from_openai(client, mode=instructor.Mode.TOOLS)
        city = asking.chat.completions.create(**ASK, response_model=City)
        assert 0 <= city.num_rivers <= 9
        *_, last = asking.chat.completions.create_partial(**ASK, response_model=City)
        assert last.model_dump() == city.model_dump()
