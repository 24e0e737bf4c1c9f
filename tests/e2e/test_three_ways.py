"""A greedy answer is one text: streamed and joined, unstreamed, and from `LLM.generate`; also cut by a stop string."""
# ruff: noqa: RUF001 -- letters that look alike are the point here

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from openai import AsyncOpenAI

from kvik import LLM, SamplingParams
from support.server import MODEL, KvikServer

NUM_PROMPTS = 200
MAX_TOKENS = 12
OPENINGS = [
    "Les élèves français étaient déçus, car",
    "Der König aß süße Äpfel und",
    "日本語の文章を書きます。今日は",
    "中文句子：今天天气很好，我们",
    "Русский текст: зимой",
    "😀 😃 😄 😁 😆 😅 🤣 😂",
    "🇩🇰 🇳🇴 🇸🇪 🇫🇮",
    "ελληνικά: η θάλασσα",
    "हिन्दी: आज",
    "한국어 문장: 오늘은",
    "naïve café, jalapeño,",
    "Once upon a time",
    "def fibonacci(n):\n    ",
    "The year was 1999. The",
    "1, 2, 3, 4, 5,",
    "∑ ∫ ∂ ∇ ≈ ≠",
    "👩\u200d👩\u200d👧\u200d👦 👨\u200d👩\u200d👧 👩\u200d👦",
    "“Quotes” — and dashes…",
    "العربية: اليوم",
    "ไทย: วันนี้",
]


@dataclass(frozen=True)
class Ask:
    prompt: str
    stop: str | None

    @property
    def params(self) -> SamplingParams:
        return SamplingParams(temperature=0, max_tokens=MAX_TOKENS, stop=[self.stop] if self.stop else [])


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM(max_model_len=512, max_num_seqs=32) as made:
        yield made


def test_two_hundred_answers(llm: LLM, server: KvikServer) -> None:
    prompts = [f"{OPENINGS[i % len(OPENINGS)]}{' ' * (i // len(OPENINGS))}" for i in range(NUM_PROMPTS)]
    asks = [Ask(p, None) for p in prompts]
    texts = generated(llm, asks)
    assert sum(not text.isascii() for text in texts) > NUM_PROMPTS / 4
    # Of every second answer a piece from its middle, wherever tokens begin and end there, shall end it.
    asks = [Ask(p, _middle(t) if i % 2 else None) for i, (p, t) in enumerate(zip(prompts, texts, strict=True))]
    offline = generated(llm, asks)
    assert sum(cut != whole for cut, whole in zip(offline, texts, strict=True)) > NUM_PROMPTS / 3
    assert offline == asyncio.run(_ask_all(server, asks, streams=False))
    assert offline == asyncio.run(_ask_all(server, asks, streams=True))


def generated(llm: LLM, asks: list[Ask]) -> list[str]:
    outputs = llm.generate([ask.prompt for ask in asks], [ask.params for ask in asks])
    return [output.outputs[0].text for output in outputs]


def _middle(text: str) -> str | None:
    at = len(text) // 2
    return text[at : at + 3] or None


async def _ask_all(server: KvikServer, asks: list[Ask], *, streams: bool) -> list[str]:
    url = f"http://127.0.0.1:{server.port}/v1"
    async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=90) as client:
        seats = asyncio.Semaphore(32)

        async def one(ask: Ask) -> str:
            async with seats:
                return await (_streamed if streams else _whole)(client, ask)

        return await asyncio.gather(*(one(ask) for ask in asks))


async def _whole(client: AsyncOpenAI, ask: Ask) -> str:
    answer = await client.completions.create(
        model=MODEL, prompt=ask.prompt, max_tokens=MAX_TOKENS, temperature=0, stop=ask.stop
    )
    return answer.choices[0].text


async def _streamed(client: AsyncOpenAI, ask: Ask) -> str:
    stream = await client.completions.create(
        model=MODEL, prompt=ask.prompt, max_tokens=MAX_TOKENS, temperature=0, stop=ask.stop, stream=True
    )
    return "".join([chunk.choices[0].text async for chunk in stream])
