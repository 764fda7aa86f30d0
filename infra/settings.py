"""Settings: one table that describes them, and their loading from the environment and a `.env` file."""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar, cast
from urllib.parse import parse_qs, unquote, urlsplit

from dotenv.parser import parse_stream

from infra import setting_values as values

T = TypeVar("T")
LogFormat: TypeAlias = Literal["console", "json"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]


class SettingsError(Exception):
    """A setting is wrong. The message is one line that says which and why, and never holds a secret."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that `repr`, `str` and formatting never show."""

    _text: str = field(repr=False)

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __str__(self) -> str:
        return "***"


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the documentation. `default` is what the environment would hold; empty means none.

    A secret may also be given as a file, named by the setting's name with `_FILE` after it.
    """

    name: str
    default: str
    meaning: str
    secret: bool = False


SETTINGS: tuple[Setting, ...] = (
    Setting("DATA_DIR", "./var", "Folder of the embedded database, keys and credentials; made when missing"),
    Setting("DATABASE_URL", "", "postgresql:// address of a server, 15 or later; none: an embedded one", secret=True),
    Setting("DATABASE_OWNER_URL", "", "As DATABASE_URL, for migrations; none: DATABASE_URL", secret=True),
    Setting("AMQP_URL", "", "amqp:// or amqps:// address of RabbitMQ; none: workers read the logs", secret=True),
    Setting("REDIS_URL", "", "redis:// or rediss:// address for shared rate limits; none: in memory", secret=True),
    Setting("HOST", "127.0.0.1", "Address to listen on"),
    Setting("AUTH_PORT", "5001", "Port of the auth service"),
    Setting("LICENSE_PORT", "5002", "Port of the license service"),
    Setting("ANALYTICS_PORT", "5003", "Port of the analytics service"),
    Setting("ADMIN_PORT", "5004", "Port of the admin service"),
    Setting("SINGLE_PORT", "5000", "Port of all services together under --single-port"),
    Setting("ADMIN_API_KEY", "", "Admin API key; none: made at the first start", secret=True),
    Setting("ADMIN_SECRET", "", "Admin secret; none: made at the first start", secret=True),
    Setting("CLIENT_TOKEN", "", "Token of programs, second dialect; none: made at the first start", secret=True),
    Setting("ADMIN_TOKEN", "", "Token of admins, second dialect; none: made at the first start", secret=True),
    Setting("SERVICE_KEY", "", "Key that wraps data keys; none: kept in the data folder", secret=True),
    Setting("SIGNING_KEYS", "", "Keys that sign tokens; none: kept in the data folder", secret=True),
    Setting("AUDIT_KEY", "", "Key that signs checkpoints; none: kept in the data folder", secret=True),
    Setting(
        "AUDIT_ORIGIN", "", "Name of the log in checkpoints; none: lizenzserver/ and the installation's fingerprint"
    ),
    Setting("AUDIT_PUSH_FILE", "", "File that each checkpoint is added to, on another machine's disk"),
    Setting("AUDIT_PUSH_URL", "", "http:// or https:// address that each checkpoint is posted to", secret=True),
    Setting("AUDIT_PUSH_QUEUE", "", "Queue of the broker that each checkpoint is sent to"),
    Setting("TRUSTED_PROXIES", "", "Comma list of networks whose X-Forwarded-For is believed"),
    Setting("CORS_ORIGINS", "", "Comma list of origins that browsers may call from"),
    Setting("TLS_CERT", "", "PEM file of the certificate chain; then all ports speak HTTPS"),
    Setting("TLS_KEY", "", "PEM file of the certificate's key, not encrypted"),
    Setting("GEO_DATABASE", "", "MMDB file with countries, perhaps cities; none: the countries that come with it"),
    Setting("ERASURE_REGISTER", "", "File that lists who was erased, for after a restore; none: in the data folder"),
    Setting("ANOMALY_THRESHOLDS", "", "TOML file of what detection goes by; none: the program's own values"),
    Setting("USAGE_RETENTION_DAYS", "90", "Days for which validations and heartbeats are kept"),
    Setting("USAGE_WAIT_MS", "250", "Milliseconds that a request waits at most for its usage row to be stored"),
    Setting("LICENSES_API_TOKEN_HOURS", "24", "Hours for which a token of the second dialect is valid"),
    Setting("LOG_FORMAT", "console", "console or json"),
    Setting("LOG_LEVEL", "info", "debug, info, warning or error"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, checked; `SETTINGS` says what each means. `database_url` None: use the embedded database."""

    data_dir: Path
    database_url: Secret | None
    database_owner_url: Secret | None
    amqp_url: Secret | None
    redis_url: Secret | None
    host: str
    auth_port: int
    license_port: int
    analytics_port: int
    admin_port: int
    single_port: int
    admin_api_key: Secret | None
    admin_secret: Secret | None
    client_token: Secret | None
    admin_token: Secret | None
    service_key: Secret | None
    signing_keys: Secret | None
    audit_key: Secret | None
    audit_origin: str | None
    audit_push_file: Path | None
    audit_push_url: Secret | None
    audit_push_queue: str | None
    trusted_proxies: tuple[values.Network, ...]
    cors_origins: tuple[str, ...]
    tls_cert: Path | None
    tls_key: Path | None
    geo_database: Path | None
    erasure_register: Path | None
    anomaly_thresholds: Path | None
    usage_retention_days: int
    usage_wait_ms: int
    licenses_api_token_hours: int
    log_format: LogFormat
    log_level: LogLevel


def load_settings(environ: Mapping[str, str], dotenv: Path | None) -> Settings:
    """Read and check all settings; the environment goes before the `.env` file, which may be missing.

    An empty value counts as not given. Nothing is written, no folder is made. Raises SettingsError.
    """
    read = _reader(environ, dotenv)
    database_url = read.secret("DATABASE_URL", values.postgresql)
    settings = Settings(
        data_dir=read.value("DATA_DIR", values.writable_folder),
        database_url=database_url,
        database_owner_url=read.secret("DATABASE_OWNER_URL", values.postgresql) or database_url,
        amqp_url=read.secret("AMQP_URL", values.address("amqp", "amqps")),
        redis_url=read.secret("REDIS_URL", values.address("redis", "rediss")),
        host=read.value("HOST", values.host),
        auth_port=read.value("AUTH_PORT", values.port),
        license_port=read.value("LICENSE_PORT", values.port),
        analytics_port=read.value("ANALYTICS_PORT", values.port),
        admin_port=read.value("ADMIN_PORT", values.port),
        single_port=read.value("SINGLE_PORT", values.port),
        admin_api_key=read.secret("ADMIN_API_KEY", values.header_text),
        admin_secret=read.secret("ADMIN_SECRET", values.header_text),
        client_token=read.secret("CLIENT_TOKEN", values.header_text),
        admin_token=read.secret("ADMIN_TOKEN", values.header_text),
        service_key=read.secret("SERVICE_KEY", str),
        signing_keys=read.secret("SIGNING_KEYS", str),
        audit_key=read.secret("AUDIT_KEY", str),
        audit_origin=read.optional("AUDIT_ORIGIN", values.log_name),
        audit_push_file=read.optional("AUDIT_PUSH_FILE", values.appendable_file),
        audit_push_url=read.secret("AUDIT_PUSH_URL", values.address("http", "https")),
        audit_push_queue=read.optional("AUDIT_PUSH_QUEUE", values.queue_name),
        trusted_proxies=read.value("TRUSTED_PROXIES", values.list_of(values.network)),
        cors_origins=read.value("CORS_ORIGINS", values.list_of(values.origin)),
        tls_cert=read.optional("TLS_CERT", values.readable_file),
        tls_key=read.optional("TLS_KEY", values.readable_file),
        geo_database=read.optional("GEO_DATABASE", values.geo_database),
        erasure_register=read.optional("ERASURE_REGISTER", values.file_of_ours),
        anomaly_thresholds=read.optional("ANOMALY_THRESHOLDS", values.thresholds),
        usage_retention_days=read.value("USAGE_RETENTION_DAYS", values.whole(1, 3650)),
        usage_wait_ms=read.value("USAGE_WAIT_MS", values.whole(0, 60_000)),
        licenses_api_token_hours=read.value("LICENSES_API_TOKEN_HOURS", values.whole(1, 8760)),
        log_format=cast("LogFormat", read.value("LOG_FORMAT", values.one_of("console", "json"))),
        log_level=cast("LogLevel", read.value("LOG_LEVEL", values.one_of("debug", "info", "warning", "error"))),
    )
    for check in (
        _check_database_functions,
        _check_ports,
        _check_tls,
        _check_pushes,
        _check_exposure,
        _check_passwords,
    ):
        check(settings, read)
    return settings


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionSettings:
    """What detection over files goes by."""

    geo_database: Path | None
    anomaly_thresholds: Path | None


def load_detection_settings(environ: Mapping[str, str], dotenv: Path | None) -> DetectionSettings:
    """Read and check these settings alone: an analyst's machine has no database, no keys, and no data folder.

    Raises SettingsError.
    """
    read = _reader(environ, dotenv)
    return DetectionSettings(
        geo_database=read.optional("GEO_DATABASE", values.geo_database),
        anomaly_thresholds=read.optional("ANOMALY_THRESHOLDS", values.thresholds),
    )


class _Reader:
    """Texts by name, given to parsers that raise ValueError with the reason why a text is wrong."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = texts
        self._defaults = {setting.name: setting.default for setting in SETTINGS}

    def value(self, name: str, parse: Callable[[str], T]) -> T:
        return self._parse(name, self.texts.get(name) or self._defaults[name], parse)

    def optional(self, name: str, parse: Callable[[str], T]) -> T | None:
        text = self.texts.get(name)
        return self._parse(name, text, parse) if text else None

    def secret(self, name: str, parse: Callable[[str], str]) -> Secret | None:
        text, file = self.texts.get(name), self.texts.get(f"{name}_FILE")
        if text and file:
            raise SettingsError(f"{name}: give either {name} or {name}_FILE, not both")
        if file:
            text = self._parse(f"{name}_FILE", file, values.file_text)
        return Secret(self._parse(name, text, parse)) if text else None

    @staticmethod
    def _parse(name: str, text: str, parse: Callable[[str], T]) -> T:
        try:
            return parse(text)
        except ValueError as wrong:
            raise SettingsError(f"{name}: {wrong}") from None


def _reader(environ: Mapping[str, str], dotenv: Path | None) -> _Reader:
    return _Reader({**(_read_dotenv(dotenv) if dotenv else {}), **{k: v for k, v in environ.items() if v}})


def _read_dotenv(path: Path) -> dict[str, str]:
    """Read a `.env` file literally: no `${…}` in it is replaced, since secrets may hold any character."""
    try:
        with path.open(encoding="utf-8") as lines:
            bindings = list(parse_stream(lines))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as wrong:
        raise SettingsError(f"{values.shown(str(path))} can't be read ({type(wrong).__name__})") from None
    for binding in bindings:
        if binding.error:
            raise SettingsError(f"{values.shown(str(path))} line {binding.original.line} is not NAME=value")
    return {binding.key: binding.value for binding in bindings if binding.key and binding.value}


def _check_database_functions(_settings: Settings, read: _Reader) -> None:
    """The event log's lock and the inline views hang on hooks that the library's database functions bypass."""
    if read.texts.get("POSTGRES_ENABLE_DB_FUNCTIONS", "").strip().lower() in {"1", "on", "t", "true", "y", "yes"}:
        raise SettingsError("POSTGRES_ENABLE_DB_FUNCTIONS: must be off, it would skip the event log's lock and views")


def _check_ports(settings: Settings, _read: _Reader) -> None:
    taken: dict[int, str] = {}
    for name in ("AUTH_PORT", "LICENSE_PORT", "ANALYTICS_PORT", "ADMIN_PORT"):
        port: int = getattr(settings, name.lower())
        if port in taken:
            raise SettingsError(f"{name}: {port} is taken by {taken[port]}")
        taken[port] = name


def _check_tls(settings: Settings, _read: _Reader) -> None:
    cert, key = settings.tls_cert, settings.tls_key
    if cert is None and key is None:
        return
    if cert is None or key is None:
        given, missing = ("TLS_CERT", "TLS_KEY") if cert else ("TLS_KEY", "TLS_CERT")
        raise SettingsError(f"{given}: needs {missing} too")
    try:
        # Without a password of its own, OpenSSL would ask for one on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
    except (OSError, ValueError):
        raise SettingsError("TLS_CERT: no PEM certificate, or TLS_KEY is not its unencrypted key") from None


def _check_pushes(settings: Settings, _read: _Reader) -> None:
    if settings.audit_push_queue and settings.amqp_url is None:
        raise SettingsError("AUDIT_PUSH_QUEUE: needs AMQP_URL too")


def _check_exposure(settings: Settings, _read: _Reader) -> None:
    """Weak secrets are for trying things out on one machine; a trusted proxy means that others can reach it."""
    if _loopback(settings.host) and not settings.trusted_proxies:
        return
    for setting in SETTINGS:
        secret: object = getattr(settings, setting.name.lower())
        if isinstance(secret, Secret) and not setting.name.endswith("_URL") and _weak(secret.reveal()):
            raise SettingsError(
                f"{setting.name}: too weak to listen beyond this machine"
                f" (at least {_SHORTEST_SECRET} characters, not a well-known word)"
            )


def _check_passwords(settings: Settings, _read: _Reader) -> None:
    """A server on another machine can be asked by others too: its password must not be one that they would try."""
    for setting in SETTINGS:
        secret: object = getattr(settings, setting.name.lower())
        if isinstance(secret, Secret) and setting.name.endswith("_URL"):
            password = _password_for_elsewhere(secret.reveal())
            if password is not None and _weak(password):
                raise SettingsError(
                    f"{setting.name}: its password is too weak for a server on another machine"
                    f" (at least {_SHORTEST_SECRET} characters, not a well-known word)"
                )


def _password_for_elsewhere(url: str) -> str | None:
    """Return the password in an address, if it is of another machine. Without any, RabbitMQ's clients say `guest`."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    named = [*query.get("host", [unquote(parts.hostname or "")]), *query.get("hostaddr", [])]
    hosts = [host for text in named for host in text.split(",")]
    if all(not host or host.startswith(("/", "@")) or _loopback(host) for host in hosts):
        return None
    if "password" in query:
        return query["password"][-1]
    if parts.password is None:
        return "guest" if parts.scheme.startswith("amqp") else None
    return unquote(parts.password)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


_SHORTEST_SECRET = 16
_FEWEST_CHARACTERS = 5
_WELL_KNOWN = re.compile(
    "(?:change|replace|default|example|password|passwd|secret|licence|license|admin|client|server|service|"
    "token|root|test|demo|dev|your|here|this|with|please|letmein|qwerty|postgres|guest|api|key|the|my|me|jwt|sk|[0-9])+"
)


def _weak(text: str) -> bool:
    """Short, of very few different characters, or made of nothing but well-known words and digits."""
    letters = re.sub(r"[^a-z0-9]", "", text.lower())
    return (
        len(text) < _SHORTEST_SECRET
        or len(set(text)) < _FEWEST_CHARACTERS
        or _WELL_KNOWN.fullmatch(letters) is not None
    )
