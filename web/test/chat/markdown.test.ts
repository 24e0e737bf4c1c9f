/** What a model writes can be seen. That it can do nothing is DOMPurify's work, tried in a real browser. */
import { describe, expect, it } from "vitest";

import { blocksOf } from "../../src/chat/markdown";

function shown(text: string): HTMLElement {
  const element = document.createElement("div");
  element.innerHTML = blocksOf(text).map((block) => (block.kind === "html" ? block.html : "")).join("");
  return element;
}

describe("markdown", () => {
  it("is cut into blocks, code apart", () => {
    const blocks = blocksOf("One *two*.\n\n```python title\nx = 1 < 2\n```\n\n- a\n- b\n");
    expect(blocks.map((block) => block.kind)).toEqual(["html", "code", "html"]);
    expect(blocks[1]).toEqual({ kind: "code", code: "x = 1 < 2", language: "python" });
  });

  it("shows code whose fence is still open", () => {
    expect(blocksOf("```js\nlet a")).toEqual([{ kind: "code", code: "let a", language: "js" }]);
  });

  it("keeps blocks that are complete as they are while more comes", () => {
    const before = blocksOf("First.\n\nSec");
    expect(blocksOf("First.\n\nSecond **one**")[0]).toEqual(before[0]);
  });

  it("loads no image: it becomes a link", () => {
    const element = shown('![a "cat"](https://example.com/cat.png)');
    expect(element.querySelector("img")).toBeNull();
    expect(element.querySelector("a")!.textContent).toBe('a "cat"');
  });

  it("shows tags as they were written", () => {
    const text = 'a <b onclick="x()">bold</b> <img src=x onerror=alert(1)>';
    expect(shown(text).textContent!.trim()).toBe(text);
    expect(shown("<script>alert(1)</script>").querySelector("script, b")).toBeNull();
  });

  it("shows boxes of tasks as characters", () => {
    const element = shown("- [x] done\n- [ ] open");
    expect(element.querySelector("input")).toBeNull();
    expect([...element.querySelectorAll("li")].map((item) => item.textContent)).toEqual(["☑ done", "☐ open"]);
  });
});
