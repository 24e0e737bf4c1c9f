"""Do the --ssl-* files fit together? Asked before the model is loaded. Knows no HTTP."""

from __future__ import annotations

import ssl

from kvik.config.frontend import ServerConfig
from kvik.errors import ConfigError


def check_tls(config: ServerConfig) -> None:
    """Raises `ConfigError` naming the flag whose file or value OpenSSL refuses."""
    ssl_context_of(config)


def ssl_context_of(config: ServerConfig) -> ssl.SSLContext | None:
    """What connections are made safe with; None without --ssl-certfile. Raises `ConfigError` as `check_tls`."""
    if config.ssl_certfile is None:
        for name in ("ssl_keyfile", "ssl_ca_certs", "ssl_ciphers"):
            if getattr(config, name) is not None:
                raise ConfigError(f"--{name.replace('_', '-')} needs --ssl-certfile, the server's certificate")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(config.ssl_certfile, config.ssl_keyfile)
    except (OSError, ssl.SSLError) as error:
        key = config.ssl_keyfile or config.ssl_certfile
        raise ConfigError(f"--ssl-certfile {config.ssl_certfile} with --ssl-keyfile {key}: {error}") from None
    _set_rest(context, config)
    return context


def _set_rest(context: ssl.SSLContext, config: ServerConfig) -> None:
    try:
        context.verify_mode = ssl.VerifyMode(config.ssl_cert_reqs)
    except ValueError:
        raise ConfigError(f"--ssl-cert-reqs must be 0, 1 or 2, got {config.ssl_cert_reqs}") from None
    try:
        if config.ssl_ca_certs is not None:
            context.load_verify_locations(config.ssl_ca_certs)
        if config.ssl_ciphers is not None:
            context.set_ciphers(config.ssl_ciphers)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"--ssl-ca-certs or --ssl-ciphers: {error}") from None
