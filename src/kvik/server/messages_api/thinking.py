"""`thinking` and `output_config.effort` -> what chat templates know. Knows no template.

Templates of models that can think read `enable_thinking` (Qwen and others) or `thinking` (DeepSeek, Granite), and some
read `reasoning_effort`. What the client sets in chat_template_kwargs wins over all of it.
"""

from __future__ import annotations

from typing import Any

from kvik.server.messages_api.protocol import ConversationFields


def template_switches(body: ConversationFields, disabled_effort: str) -> dict[str, Any]:
    """The chat fields `reasoning_effort` and `chat_template_kwargs`.

    `disabled_effort`: --anthropic-disabled-thinking-effort, what stands for thinking that is turned off; "auto" leaves
    the effort alone and turns thinking off in the template.
    """
    effort: str | None = body.output_config.effort if body.output_config else None
    is_on = None if body.thinking is None else body.thinking.type != "disabled"
    if is_on is False and disabled_effort != "auto":
        effort, is_on = disabled_effort, disabled_effort != "none"
    variables = {} if is_on is None else {"enable_thinking": is_on, "thinking": is_on}
    return {"reasoning_effort": effort, "chat_template_kwargs": variables | (body.chat_template_kwargs or {})}
