"""What can be clicked leads somewhere, every page is in the navigation, and generated pages fit the code."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from kvik.config.catalog import serve_flags
from support.documents import DOCS, PAGES, ROOT, anchors, links, name_of

GENERATED = ("migration_tables", "python_api")
NEEDED = (
    "quick-start", "migrating-from-vllm", "migrating-from-llama-cpp-and-ollama", "tuning", "architecture",
    "reliability", "security", "performance", "cli", "http-api", "python-api",
)  # fmt: skip


class _Tolerant(yaml.SafeLoader):
    """Reads the tags by which mkdocs names extensions as plain text."""


_Tolerant.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)


def in_navigation(entry: Any) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in in_navigation(part)]


def test_every_page_is_in_the_navigation_once_and_nothing_else_is() -> None:
    listed = in_navigation(yaml.load((ROOT / "mkdocs.yml").read_text(), _Tolerant)["nav"])
    assert sorted(listed) == sorted(page.name for page in DOCS.glob("*.md"))
    assert {f"{name}.md" for name in NEEDED} <= set(listed)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page: Path) -> None:
    broken = [link for link in links(page) if "://" not in link and not _resolves(page, link)]
    assert not broken


def _resolves(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if page.parent == DOCS and target.parent != DOCS and DOCS not in target.parents:
        return False  # the site has only docs/
    return target.exists() and (not anchor or anchor in anchors(target))


@pytest.mark.parametrize("script", GENERATED)
def test_generated_pages_are_what_their_script_makes(script: str) -> None:
    made = subprocess.run([sys.executable, f"scripts/{script}.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, f"run scripts/{script}.py again\n{made.stderr}"


def test_every_flag_and_metric_of_the_field_is_told_once() -> None:
    """Counted on the page, against what the code knows."""
    script = runpy.run_path(str(ROOT / "scripts" / "migration_tables.py"))
    text = (DOCS / "migrating-from-vllm.md").read_text(encoding="utf-8")
    _, flags, metrics = re.split(r"^## (?:Flags|Metrics, one by one)$", text, flags=re.MULTILINE)
    for flag in serve_flags():
        shown = "`MODEL`" if flag.name == "model-tag" else f"`--{flag.name}`"
        assert flags.count(shown) == 1, shown
    for name in script["FIELD"]:
        assert metrics.count(f"`vllm:{name}`") == 1, name


class _Requests(HTMLParser):
    """Collects what a browser would fetch of its own accord, and where `url(...)` of a style points."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        fetched = named.get("src") or (named.get("href") if tag == "link" and named.get("rel") != "canonical" else None)
        self.found += [fetched] if fetched else []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material", reason="the site is built where mkdocs-material is: make docs")
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert built.returncode == 0, built.stderr + built.stdout
    return folder


def test_the_site_is_built_without_a_warning(site: Path) -> None:
    assert {page.stem for page in DOCS.glob("*.md")} <= {page.stem for page in site.glob("*.html")}


def test_anchors_are_those_that_the_site_has(site: Path) -> None:
    """Or the test of links above would look for something else than browsers do."""
    for page in DOCS.glob("*.md"):
        ids = set(re.findall(r'<h[1-6] id="([^"]*)"', (site / f"{page.stem}.html").read_text(encoding="utf-8")))
        assert anchors(page) == ids, page.name


def test_the_site_asks_no_other_server_for_anything(site: Path) -> None:
    for page in site.glob("*.html"):
        parser = _Requests()
        parser.feed(page.read_text(encoding="utf-8"))
        assert parser.found, page.name
        assert not [address for address in parser.found if "//" in address], page.name
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", style.read_text(encoding="utf-8")), style.name


MIGRATION = tuple(page for page in PAGES if page.name.startswith("migrating-"))
"""These name flags of other servers too."""


@pytest.mark.parametrize("page", [page for page in PAGES if page not in MIGRATION], ids=name_of)
def test_flags_in_the_text_are_flags(page: Path, known_flags: set[str]) -> None:
    """What stands in `code`; whole commands run in tests/e2e/test_documented_commands.py."""
    code = " ".join(re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8")))
    assert set(re.findall(r"(?<![\w-])--([a-z][a-z0-9-]*[a-z0-9])(?![\w-])", code)) <= known_flags


@pytest.fixture(scope="module")
def known_flags() -> set[str]:
    """Those of `kvik serve`, and the fields and words by which the other commands and the scripts make theirs."""
    named = {name for flag in serve_flags() for name in (flag.name, f"no-{flag.name}", *flag.aliases)}
    text = "\n".join(
        path.read_text() for room in ("src/kvik", "bench", "scripts") for path in (ROOT / room).rglob("*.py")
    )
    fields = set(re.findall(r"^    (\w+): [^\n]* = flag\(", text, re.MULTILINE))
    literals = set(re.findall(r'"(?:--)?([a-z][a-z0-9-]+)"', text)) | set(re.findall(r"--([a-z][a-z0-9-]+)", text))
    return {name.lstrip("-") for name in named} | {name.replace("_", "-") for name in fields} | literals
