"""The offline door: `LLM(model).generate(prompts)`. The same engine as the server's, in this process, without a wall.

from kvik import LLM, SamplingParams

llm = LLM("path/to/model")
for output in llm.generate(["Hello, my name is"], SamplingParams(max_tokens=32)):
    print(output.outputs[0].text)
"""

from __future__ import annotations

from kvik.llm.beams import BeamSearchOutput, BeamSearchSequence
from kvik.llm.llm import LLM
from kvik.llm.prompts import Conversation, Prompt

__all__ = ["LLM", "BeamSearchOutput", "BeamSearchSequence", "Conversation", "Prompt"]
