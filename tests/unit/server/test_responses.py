"""Events: what is encoded once must say the same as what is encoded anew."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kvik.server.responses import EventTemplate, event

nasty = st.one_of(st.text(), st.sampled_from(['"text":""', '{"text":""}', '\\"text\\":\\"\\"', "\\", '"']))


@given(model=nasty, texts=st.lists(nasty, min_size=1, max_size=4))
def test_a_template_says_what_the_whole_event_would(model: str, texts: list[str]) -> None:
    def chunk(text: str) -> dict[str, Any]:
        return {"model": model, "choices": [{"index": 0, "text": text, "stop_reason": None}]}

    template = EventTemplate(chunk(""), "text")
    for text in texts:
        assert template.fill(text) == event(chunk(text))
        assert json.loads(template.fill(text).removeprefix(b"data: ")) == chunk(text)
