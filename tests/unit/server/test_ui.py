"""GET /ui: the files of the page, built or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kvik.server import page_files
from support.server_without_engine import Server

MakeServer = Callable[..., Server]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A page as Vite builds it, and a file beside it that is none of it."""
    folder = tmp_path / "page"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<p>page")
    (folder / "assets" / "index-4f2a.js").write_text("go()")
    (tmp_path / "secret.txt").write_text("secret")
    monkeypatch.setattr(page_files, "FOLDER", folder)
    return folder


@pytest.mark.usefixtures("page")
def test_the_page_and_its_files(server: Server) -> None:
    assert server.http.get("/ui").text == "<p>page"
    answer = server.http.get("/ui/assets/index-4f2a.js")
    assert (answer.text, answer.headers["content-type"]) == ("go()", "text/javascript; charset=utf-8")
    assert "immutable" in answer.headers["cache-control"]
    assert server.http.get("/ui/").headers["cache-control"] == "no-cache"
    assert server.http.get("/ui/nothing").status_code == 404
    head = server.http.head("/ui/")
    assert (head.status_code, head.text, head.headers["content-length"]) == (200, "", str(len("<p>page")))


@pytest.mark.usefixtures("page")
def test_it_loads_nothing_from_elsewhere_and_nobody_frames_it(server: Server) -> None:
    headers = server.http.get("/ui/").headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.usefixtures("page")
@pytest.mark.parametrize("name", ["../secret.txt", "assets/../../secret.txt", "/etc/passwd", "assets", "assets/"])
def test_no_name_leads_out_of_its_folder(server: Server, name: str) -> None:
    assert page_files.page_file(name) is None
    assert server.http.get("/ui/" + name.replace("..", "%2e%2e").replace("/", "%2f")).status_code == 404


@pytest.mark.usefixtures("page")
def test_below_a_prefix(serve: MakeServer) -> None:
    server = serve(root_path="/llm")
    answer = server.http.get("/llm/ui", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "ui/")
    assert server.http.get("/llm/ui/").text == "<p>page"


@pytest.mark.usefixtures("page")
def test_the_files_need_no_key_and_are_there_to_the_end(serve: MakeServer) -> None:
    server = serve(api_key=("sesame",))
    assert server.http.get("/ui/").status_code == 200
    server.state.is_draining = True
    assert server.http.get("/ui/").status_code == 200
    server.llm.is_dead = True
    assert server.http.get("/ui/assets/index-4f2a.js").status_code == 200


def test_without_a_build_it_says_how_to_make_it(server: Server, page: Path) -> None:
    (page / "index.html").rename(page / "later.html")
    answer = server.http.get("/ui/")
    assert answer.status_code == 404
    assert "make web" in answer.text
    (page / "later.html").rename(page / "index.html")
    assert server.http.get("/ui/").text == "<p>page", "no restart is needed"
