"""Prose made from a seed, which a model can be asked to quote. Repeats no sentence."""

from __future__ import annotations

import random

from kvik.bench.datasets import TextCoder

WHO = "the harbour master,a young botanist,the last lamplighter,our neighbour,the night train's guard,an old cooper"
WHERE = "behind the mill,at the ferry landing,under the north bridge,in the glass house,beside the canal,on the heath"
WHAT = "counted seven grey herons,wrote down the water's height,lost a brass key,heard the bells of two towns"
WHEN = "on the first day of frost,before the fog had lifted,when the market closed,in the year of the long summer"
WHY = "because the lock was to be mended,as the almanac had foretold,though nobody had asked,to settle an old wager"


def source(draw: random.Random, num_sentences: int) -> str:
    """Sentences that differ at least in their number."""
    parts = [part.split(",") for part in (WHEN, WHO, WHAT, WHERE, WHY)]
    lines = []
    for number in range(1, num_sentences + 1):
        when, who, what, where, why = (draw.choice(words) for words in parts)
        lines.append(f"{number}. {when.capitalize()}, {who} {what} {where}, {why}.")
    return " ".join(lines)


def quoted_prompt(tokenizer: TextCoder, source_len: int, draw: random.Random) -> list[int]:
    """Token ids: a source of `source_len` tokens, and the beginning of a summary which quotes it."""
    text = source(draw, 1 + source_len // 12)
    ids = tokenizer.encode(text, add_special_tokens=False)[:source_len]
    first_words = " ".join(text.split(" ")[:8])
    question = f'\n\nA summary that quotes the whole text above, word for word:\n\n"{first_words}'
    return ids + tokenizer.encode(question, add_special_tokens=False)
