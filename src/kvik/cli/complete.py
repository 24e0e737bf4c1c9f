"""`kvik complete`: a running server continues each text; the continuation is printed as it comes."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from kvik.cli.answer import Answer, Piece
from kvik.cli.client import Client, ClientArgs
from kvik.cli.terminal import converse, model_of, read_args

USAGE = "kvik complete [flags]"


def run(words: Sequence[str]) -> int:
    args = read_args(ClientArgs, words, USAGE)
    if args is None:
        return 0
    client = Client(args)
    model = model_of(args, client)

    def ask(text: str, answer: Answer) -> Generator[Piece, None, None]:
        body: dict[str, object] = {"model": model, "prompt": text}
        if args.max_tokens is not None:
            body["max_tokens"] = args.max_tokens
        return client.stream("/completions", body, answer)

    converse(args, ask)
    return 0
