"""HTTPS with a certificate of one's own."""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest

from support.server import KvikServer, free_port


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Key and self-signed certificate for 127.0.0.1."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to make a certificate with")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return key, cert


def first_answer(port: int, cert: Path) -> tuple[int, object]:
    """What GET /live brings as soon as it brings something."""
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        trusted = ssl.create_default_context(cafile=str(cert))
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=trusted, timeout=30)
        try:
            connection.request("GET", "/live")
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except ConnectionRefusedError:
            threading.Event().wait(0.01)
        finally:
            connection.close()
    return 0, None


def test_the_api_speaks_tls(certificate: tuple[Path, Path]) -> None:
    key, cert = certificate
    port = free_port()
    early: list[tuple[int, object]] = []
    polling = threading.Thread(target=lambda: early.append(first_answer(port, cert)))
    polling.start()
    with KvikServer("--ssl-keyfile", str(key), "--ssl-certfile", str(cert), port=port) as server:
        polling.join()
        assert early == [(200, {"status": "starting"})]
        trusted = ssl.create_default_context(cafile=str(cert))
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=trusted, timeout=30)
        try:
            connection.request("GET", "/v1/models")
            answer = connection.getresponse()
            assert (answer.status, json.loads(answer.read())["object"]) == (200, "list")
        finally:
            connection.close()
        assert f"https://127.0.0.1:{server.port}" in server.log
