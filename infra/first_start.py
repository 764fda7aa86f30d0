"""Credentials that nobody has chosen are made at the first start and kept in the data folder."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from infra.durable_files import put
from infra.settings import Secret, Settings, SettingsError

_PREFIXES = {
    "admin_api_key": "adm_",
    "admin_secret": "ads_",
    "client_token": "clt_",
    "admin_token": "adt_",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The service's own credentials. `fresh`: field names of those that this call made, to be shown once."""

    admin_api_key: Secret
    admin_secret: Secret
    client_token: Secret
    admin_token: Secret
    fresh: frozenset[str]


def ensure_credentials(settings: Settings, data_dir: Path) -> Credentials:
    """Return each credential from the settings, else from `data_dir/credentials/NAME`, else make that file.

    Any number of processes may do this at once: one makes a credential, all get the same. Files are mode 0600 in a
    folder of mode 0700. Raises SettingsError when a file is empty, and OSError when the folder can't be used.
    """
    folder = data_dir / "credentials"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    found: dict[str, Secret] = {}
    fresh: set[str] = set()
    for name, prefix in _PREFIXES.items():
        chosen: Secret | None = getattr(settings, name)
        if chosen is None:
            path = folder / name.upper()
            if _create(path, prefix + secrets.token_urlsafe(32)):
                fresh.add(name)
            chosen = _read(path)
        found[name] = chosen
    return Credentials(**found, fresh=frozenset(fresh))


def _create(path: Path, text: str) -> bool:
    """Make the file with all of its content in one step; False when it is there already."""
    if path.exists():
        return False
    try:
        put(path, f"{text}\n".encode("ascii"), overwrite=False)
    except FileExistsError:
        return False
    return True


def _read(path: Path) -> Secret:
    text = path.read_text(encoding="utf-8").strip()
    if not text:
        raise SettingsError(f"{path.name}: {path} is empty; delete it to have a new one made")
    return Secret(text)
