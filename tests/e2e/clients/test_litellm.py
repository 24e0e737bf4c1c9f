"""`litellm`, through its providers for servers of the OpenAI kind and for Anthropic's API."""

from __future__ import annotations

import asyncio
from types import ModuleType
from typing import Any

import pytest

from support.server import MODEL, KvikServer

# It makes some of its models when the first chunk comes, and pydantic remarks on them then.
pytestmark = pytest.mark.filterwarnings("ignore:.*ReadOnly.*:UserWarning")

ASK: dict[str, Any] = {
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "temperature": 0,
    "max_tokens": 24,
}


@pytest.fixture(scope="module")
def litellm() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else the import asks the network for prices
        import litellm
    litellm.telemetry = False
    return litellm


@pytest.fixture
def text(server: KvikServer) -> str:
    with server.client() as client:
        return str(client.chat.completions.create(model=MODEL, **ASK).choices[0].message.content)


def providers(base_url: str) -> list[dict[str, Any]]:
    """How a user names the server, in the three ways there are."""
    return [
        {"model": f"openai/{MODEL}", "api_base": f"{base_url}/v1", "api_key": "none"},
        {"model": f"hosted_vllm/{MODEL}", "api_base": f"{base_url}/v1"},
        {"model": f"anthropic/{MODEL}", "api_base": base_url, "api_key": "none"},
    ]


def test_every_provider_gives_the_answer(litellm: ModuleType, base_url: str, text: str) -> None:
    for provider in providers(base_url):
        answer = litellm.completion(**provider, **ASK)
        assert answer.choices[0].message.content == text, provider
        assert answer.choices[0].finish_reason in ("stop", "length")
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_every_provider_streams_it(litellm: ModuleType, base_url: str, text: str) -> None:
    for provider in providers(base_url):
        chunks = list(litellm.completion(**provider, **ASK, stream=True))
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == text, provider
        assert chunks[-1].choices[0].finish_reason in ("stop", "length")


def test_async(litellm: ModuleType, base_url: str, text: str) -> None:
    async def ask() -> str:
        answer = await litellm.acompletion(**providers(base_url)[0], **ASK)
        return str(answer.choices[0].message.content)

    assert asyncio.run(ask()) == text


def test_text_completions(litellm: ModuleType, base_url: str) -> None:
    answer = litellm.text_completion(
        model=f"text-completion-openai/{MODEL}", api_base=f"{base_url}/v1", api_key="none",
        prompt="One, two, three,", temperature=0, max_tokens=4,
    )  # fmt: skip
    assert "four" in answer.choices[0].text


def test_errors_keep_their_class(litellm: ModuleType, base_url: str) -> None:
    for provider in providers(base_url):
        with pytest.raises(litellm.BadRequestError, match="temperature"):
            litellm.completion(**provider, **ASK | {"temperature": 9})
        name = provider["model"].replace(MODEL, "unknown-model")
        with pytest.raises(litellm.NotFoundError):
            litellm.completion(**provider | {"model": name}, **ASK)
