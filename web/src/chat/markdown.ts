/** Markdown of a model -> blocks to show: code as it is, the rest as HTML that can do nothing. Pure but for the DOM. */
import DOMPurify from "dompurify";
import { Marked, type Token, type Tokens } from "marked";

export type Block = { kind: "code"; code: string; language: string } | { kind: "html"; html: string };

const marked = new Marked({ gfm: true, breaks: true });
marked.use({
  renderer: {
    // Tags that a model writes are shown, not obeyed.
    html: ({ text }) => escaped(text),
    // An image would tell its server who reads here.
    image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(text || href)}</a>`,
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
  },
});

/** One per block of the text, in order; not sanitised yet, so that only those that changed need to be. */
export function blocksOf(text: string): Block[] {
  return marked.lexer(text).filter(isShown).map(blockOf);
}

function isShown(token: Token): boolean {
  return token.type !== "space" && token.type !== "def";
}

function blockOf(token: Token): Block {
  if (token.type !== "code") return { kind: "html", html: marked.parser([token]) };
  const { text, lang = "" } = token as Tokens.Code;
  return { kind: "code", code: text, language: lang.split(/\s/)[0]! };
}

const ALLOWED_TAGS = [
  "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre",
  "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
];
const ALLOWED_ATTR = ["align", "href", "rel", "start", "target", "title"];

const purifier = DOMPurify(window);
purifier.addHook("afterSanitizeAttributes", (element) => {
  if (element.tagName !== "A") return;
  element.setAttribute("target", "_blank");
  element.setAttribute("rel", "noopener noreferrer");
});

export function sanitised(html: string): string {
  return purifier.sanitize(html, { ALLOWED_TAGS, ALLOWED_ATTR, ALLOW_DATA_ATTR: false, ALLOW_ARIA_ATTR: false });
}

const ENTITIES: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character]!);
}
