"""Where the services listen: whether a port can be had, and the addresses to print."""

from __future__ import annotations

import os
import socket

from cli.errors import Failure
from infra.settings import Settings

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound to


def check_port(host: str, port: int, service_name: str) -> None:
    """Raise Failure where a port can't be had, before anything is started."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise Failure(f"HOST: {host} can't be resolved ({error.strerror})") from None
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                trial.bind(address)
            except OSError as error:
                raise port_taken(host, port, service_name, error) from None


def port_taken(host: str, port: int, service_name: str, error: OSError) -> Failure:
    """Make the failure that names the port, why it can't be had, and the setting that chooses it."""
    setting = "SINGLE_PORT" if service_name == "all" else f"{service_name.upper()}_PORT"
    reason = os.strerror(error.errno) if error.errno else str(error)
    return Failure(f"{setting}: can't listen on {host} port {port} ({reason}): stop what uses it, or set {setting}")


def base_url(settings: Settings, port: int) -> str:
    """Return the address under which this machine reaches a port."""
    host = _EVERYWHERE.get(settings.host, settings.host)
    if ":" in host:
        host = f"[{host}]"
    return f"{'https' if settings.tls_cert else 'http'}://{host}:{port}"
