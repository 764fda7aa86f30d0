"""Runs every service on a port of its own, and all of them on one more. Settings: the environment; ports: argv."""

from __future__ import annotations

import os
import sys

import uvloop

from api.server import SERVICES, all_in_one
from cli.serve import serve
from infra import logs
from infra.first_start import ensure_credentials
from infra.postgres import Database
from infra.settings import load_settings
from tests.support.patience import patience, patient


def main() -> None:
    settings = patient(load_settings(os.environ, None))
    logs.configure(settings.log_format, settings.log_level)
    assert settings.database_url is not None
    url = settings.database_url.reveal()
    services_and_ports = list(zip((*SERVICES, all_in_one()), map(int, sys.argv[1:]), strict=True))
    secrets = ensure_credentials(settings, settings.data_dir)
    with patience():
        uvloop.run(serve(settings, Database(url, url), secrets, services_and_ports, say_ready))


def say_ready() -> None:
    os.write(1, b"ready\n")


if __name__ == "__main__":
    main()
