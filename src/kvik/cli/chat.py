"""`kvik chat`: a conversation with a running server; each answer is printed as it comes."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvik.cli.answer import Answer, Piece
from kvik.cli.client import Client, ClientArgs
from kvik.cli.terminal import converse, model_of, read_args
from kvik.config.flags import flag

USAGE = "kvik chat [flags]"
HELP_TEXT = """/system TEXT  set the system message; without TEXT remove it
/clear        forget the conversation
/save FILE    write it as JSON
/quit         leave, as Ctrl+D does
A line that ends with a backslash goes on in the next one. Ctrl+C stops an answer."""


@dataclass(frozen=True, kw_only=True)
class ChatArgs(ClientArgs):
    system_prompt: str | None = flag(None, "text of a system message before the first question")


def run(words: Sequence[str]) -> int:
    args = read_args(ChatArgs, words, USAGE)
    if args is None:
        return 0
    client = Client(args)
    conversation = Conversation(args, client, model_of(args, client))
    converse(args, conversation.ask, conversation.command)
    return 0


class Conversation:
    """Remembers all messages, so that each question is asked with what came before."""

    def __init__(self, args: ChatArgs, client: Client, model: str) -> None:
        self._args, self._client, self._model = args, client, model
        self.messages: list[dict[str, str]] = []
        if args.system_prompt is not None:
            self.messages.append({"role": "system", "content": args.system_prompt})

    def ask(self, text: str, answer: Answer) -> Generator[Piece, None, None]:
        """Reasoning is shown and not remembered: a template that wants it wants it of the present answer only."""
        question = {"role": "user", "content": text}
        self.messages.append(question)
        body: dict[str, object] = {"model": self._model, "messages": self.messages}
        if self._args.max_tokens is not None:
            body["max_completion_tokens"] = self._args.max_tokens
        try:
            yield from self._client.stream("/chat/completions", body, answer)
        except BaseException:  # refused, cut off or stopped: a question without its whole answer is not remembered
            self.messages.remove(question)
            raise
        self.messages.append({"role": "assistant", "content": answer.text})

    def command(self, line: str) -> str:
        """Do what a line that starts with a slash says; returns what to tell the user."""
        word, _, text = line.partition(" ")
        if word == "/system":
            self._set_system(text.strip())
            return "system message set; the conversation goes on with it" if text.strip() else "system message removed"
        if word == "/clear":
            self.messages = [m for m in self.messages if m["role"] == "system"]
            return "conversation forgotten"
        if word == "/save":
            return self._save(text.strip())
        return HELP_TEXT if word == "/help" else f"unknown command {word}\n{HELP_TEXT}"

    def _set_system(self, text: str) -> None:
        rest = [m for m in self.messages if m["role"] != "system"]
        self.messages = [{"role": "system", "content": text}, *rest] if text else rest

    def _save(self, path: str) -> str:
        """The messages as JSON, as a request would hold them."""
        if not path:
            return "name a file: /save FILE"
        try:
            Path(path).expanduser().write_text(
                json.dumps(self.messages, ensure_ascii=False, indent=1), encoding="utf-8"
            )
        except OSError as error:
            return f"cannot write {path}: {error.strerror}"
        return f"{len(self.messages)} messages written to {path}"
