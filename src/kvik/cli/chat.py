"""`kvik chat`: a conversation with a running server; each answer is printed as it comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kvik.cli.client import Answer, Client, ClientArgs
from kvik.cli.terminal import converse, model_of, read_args
from kvik.config.flags import flag

USAGE = "kvik chat [flags]"


@dataclass(frozen=True, kw_only=True)
class ChatArgs(ClientArgs):
    system_prompt: str | None = flag(None, "text of a system message before the first question")


def run(words: Sequence[str]) -> int:
    args = read_args(ChatArgs, words, USAGE)
    if args is None:
        return 0
    client = Client(args)
    converse(args, Conversation(args, client, model_of(args, client)).ask)
    return 0


class Conversation:
    """Remembers all messages, so that each question is asked with what came before."""

    def __init__(self, args: ChatArgs, client: Client, model: str) -> None:
        self._args, self._client, self._model = args, client, model
        self.messages: list[dict[str, str]] = []
        if args.system_prompt is not None:
            self.messages.append({"role": "system", "content": args.system_prompt})

    def ask(self, text: str, answer: Answer) -> Iterator[str]:
        self.messages.append({"role": "user", "content": text})
        body: dict[str, object] = {"model": self._model, "messages": self.messages}
        if self._args.max_tokens is not None:
            body["max_completion_tokens"] = self._args.max_tokens
        yield from self._client.stream("/chat/completions", body, answer)
        self.messages.append({"role": "assistant", "content": answer.text})
