"""HTTPS with a certificate of one's own."""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from support.server import KvikServer


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


def test_the_api_speaks_tls(certificate: tuple[Path, Path]) -> None:
    key, cert = certificate
    with KvikServer("--ssl-keyfile", str(key), "--ssl-certfile", str(cert)) as server:
        trusted = ssl.create_default_context(cafile=str(cert))
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=trusted, timeout=30)
        try:
            connection.request("GET", "/v1/models")
            answer = connection.getresponse()
            assert (answer.status, json.loads(answer.read())["object"]) == (200, "list")
        finally:
            connection.close()
        assert f"https://127.0.0.1:{server.port}" in server.log
