"""Settings: what is given, what is left out, and what is refused in which words."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from ipaddress import ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from infra.settings import SETTINGS, Secret, Settings, SettingsError, load_settings

STRONG = "Vb7kQ0x2mNq8Rz5t"
SECRETS = [setting.name for setting in SETTINGS if setting.secret]
ADDRESSES = {
    "DATABASE_URL": "postgresql://u:hidden-Vb7kQ0x2mNq8@db/x",
    "DATABASE_OWNER_URL": "postgresql://u:hidden-Vb7kQ0x2mNq8@db/x",
    "AMQP_URL": "amqp://u:hidden-Vb7kQ0x2mNq8@mq",
    "REDIS_URL": "redis://:hidden-Vb7kQ0x2mNq8@cache:6379/0",
    "AUDIT_PUSH_URL": "https://u:hidden-Vb7kQ0x2mNq8@auditor.example/checkpoints",
}


def load(tmp_path: Path, **environ: str) -> Settings:
    return load_settings({"DATA_DIR": str(tmp_path), **environ}, None)


def refusal(tmp_path: Path, **environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, **environ)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_each_setting_is_described_once() -> None:
    assert sorted(s.name.lower() for s in SETTINGS) == sorted(f.name for f in dataclasses.fields(Settings))


def test_nothing_given_means_the_defaults() -> None:
    settings = load_settings({}, None)
    assert settings.data_dir == Path("var").absolute()
    assert settings.host == "127.0.0.1"
    ports = (settings.auth_port, settings.license_port, settings.analytics_port, settings.admin_port)
    assert ports == (5001, 5002, 5003, 5004)
    assert settings.single_port == 5000
    assert settings.database_url is settings.database_owner_url is settings.admin_api_key is None
    assert (settings.usage_retention_days, settings.usage_wait_ms, settings.licenses_api_token_hours) == (90, 250, 24)
    assert (settings.log_format, settings.log_level) == ("console", "info")
    assert settings.trusted_proxies == settings.cors_origins == ()


def test_lists_are_split_and_parsed(tmp_path: Path) -> None:
    settings = load(
        tmp_path, TRUSTED_PROXIES="10.0.0.0/8, ::1,", CORS_ORIGINS="https://App.example:8443,tauri://localhost"
    )
    assert settings.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    assert settings.cors_origins == ("https://app.example:8443", "tauri://localhost")


def test_the_environment_goes_before_the_dotenv_file(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("AUTH_PORT=6001\nLICENSE_PORT=6002 # mine\nADMIN_SECRET='a$HOME${b} c'\n".replace(" c'", "'"))
    settings = load_settings({"AUTH_PORT": "7001", "LICENSE_PORT": ""}, dotenv)
    assert (settings.auth_port, settings.license_port) == (7001, 6002)
    assert settings.admin_secret == Secret("a$HOME${b}")


def test_a_missing_dotenv_file_is_fine_and_a_broken_one_is_not(tmp_path: Path) -> None:
    assert load_settings({}, tmp_path / "none").auth_port == 5001
    broken = tmp_path / ".env"
    broken.write_text("AUTH_PORT=1\n'LICENSE\n")
    with pytest.raises(SettingsError, match="line 2"):
        load_settings({}, broken)
    with pytest.raises(SettingsError, match="can't be read"):
        load_settings({}, tmp_path)


def test_migrations_use_the_services_login_unless_told_otherwise(tmp_path: Path) -> None:
    service, owner = "postgresql://service@db/x", "postgresql://owner@db/x"
    assert load(tmp_path, DATABASE_URL=service).database_owner_url == Secret(service)
    assert load(tmp_path, DATABASE_URL=service, DATABASE_OWNER_URL=owner).database_owner_url == Secret(owner)


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_may_be_a_file(tmp_path: Path, name: str) -> None:
    text = ADDRESSES.get(name, STRONG)
    (tmp_path / "secret").write_text(text + "\n")
    settings = load(tmp_path, **{f"{name}_FILE": str(tmp_path / "secret")})
    assert getattr(settings, name.lower()).reveal() == text


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_given_once_and_its_file_is_readable(tmp_path: Path, name: str) -> None:
    text = ADDRESSES.get(name, STRONG)
    assert "not both" in refusal(tmp_path, **{name: text, f"{name}_FILE": "x"})
    assert refusal(tmp_path, **{f"{name}_FILE": "/none/hidden"}) == (
        f"{name}_FILE: the file can't be read (FileNotFoundError)"
    )
    (tmp_path / "empty").write_text("\n")
    assert "empty" in refusal(tmp_path, **{f"{name}_FILE": str(tmp_path / "empty")})


def test_no_secret_is_ever_shown(tmp_path: Path) -> None:
    settings = load(tmp_path, **ADDRESSES, **{name: STRONG for name in SECRETS if name not in ADDRESSES})
    for shown in (repr(settings), str(settings), f"{settings.admin_secret} {settings.admin_secret!r}"):
        assert STRONG not in shown
        assert "hidden" not in shown


@pytest.mark.parametrize(
    "name,text,why",
    [
        ("AUTH_PORT", "http", "'http' is not a whole number from 1 to 65535"),
        ("AUTH_PORT", "0", "'0' is not a whole number from 1 to 65535"),
        ("AUTH_PORT", "65536", "from 1 to 65535"),
        ("AUTH_PORT", "-1", "from 1 to 65535"),
        ("AUTH_PORT", "5_001", "from 1 to 65535"),
        ("AUTH_PORT", "\u0665\u0660\u0660\u0661", "from 1 to 65535"),
        ("LICENSE_PORT", "5001", "5001 is taken by AUTH_PORT"),
        ("ADMIN_PORT", "5003", "5003 is taken by ANALYTICS_PORT"),
        ("TRUSTED_PROXIES", "10.0.0.0/33", "'10.0.0.0/33' is not an address or network"),
        ("TRUSTED_PROXIES", "10.0.0.1/8", "not an address or network"),
        ("CORS_ORIGINS", "*", "'*' is not an origin"),
        ("CORS_ORIGINS", "https://a.example/path", "no path"),
        ("LOG_FORMAT", "xml", "'xml' is none of console, json"),
        ("LOG_FORMAT", "x\ny", r"'x\ny' is none of"),
        ("LOG_LEVEL", "loud", "'loud' is none of debug, info, warning, error"),
        ("DATABASE_URL", "mysql://u:hidden@db/x", "is not a postgresql://"),
        ("DATABASE_URL", "postgresql://u:hidden@db:nan/x", "is not a postgresql://"),
        ("DATABASE_OWNER_URL", "hidden", "is not a postgresql://"),
        ("AMQP_URL", "http://u:hidden@mq", "is not a amqp:// or amqps:// address"),
        ("REDIS_URL", "redis://", "is not a redis:// or rediss:// address"),
        ("AUDIT_ORIGIN", "a+b", "'a+b' must be at most 200 visible ASCII characters without a plus sign"),
        ("AUDIT_ORIGIN", "my log", "without a plus sign"),
        ("AUDIT_PUSH_URL", "ftp://u:hidden@a/x", "is not a http:// or https:// address"),
        ("AUDIT_PUSH_FILE", "/none/checkpoints", "is not a file in a folder that there is"),
        ("AUDIT_PUSH_FILE", "/tmp", "is not a file in a folder that there is"),
        ("AUDIT_PUSH_QUEUE", "amq.gen", "not amq. at their beginning"),
        ("AUDIT_PUSH_QUEUE", "auditors", "needs AMQP_URL too"),
        ("ADMIN_SECRET", "hidden\r\nX: y", "printable ASCII"),
        ("HOST", "a b", "'a b' is neither an address nor a host name"),
        ("USAGE_RETENTION_DAYS", "0", "from 1 to 3650"),
        ("USAGE_WAIT_MS", "soon", "from 0 to 60000"),
        ("LICENSES_API_TOKEN_HOURS", "1.5", "from 1 to 8760"),
        ("POSTGRES_ENABLE_DB_FUNCTIONS", "Yes", "must be off"),
        ("TLS_CERT", "/none/cert.pem", "can't be read (FileNotFoundError)"),
        ("DATA_DIR", "/etc/hostname/var", "'/etc/hostname' is not a folder"),
        ("DATA_DIR", "x" * 5000, "is not a usable folder"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(tmp_path: Path, name: str, text: str, why: str) -> None:
    message = refusal(tmp_path, **{name: text})
    assert message.startswith(f"{name}: ")
    assert why in message
    assert "hidden" not in message


def test_a_read_only_data_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere
    assert refusal(tmp_path, DATA_DIR=str(tmp_path / "var")) == f"DATA_DIR: '{tmp_path}' is not writable"


def test_database_functions_that_are_off_are_no_error(tmp_path: Path) -> None:
    load(tmp_path, POSTGRES_ENABLE_DB_FUNCTIONS="no")


def test_tls_needs_both_files_and_they_must_fit(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "a")
    _, other = certificate(tmp_path, "b")
    _, encrypted = certificate(tmp_path, "c", password=b"x")
    settings = load(tmp_path, TLS_CERT=str(cert), TLS_KEY=str(key))
    assert (settings.tls_cert, settings.tls_key) == (cert, key)
    assert refusal(tmp_path, TLS_CERT=str(cert)) == "TLS_CERT: needs TLS_KEY too"
    assert refusal(tmp_path, TLS_KEY=str(key)) == "TLS_KEY: needs TLS_CERT too"
    assert "not its unencrypted key" in refusal(tmp_path, TLS_CERT=str(cert), TLS_KEY=str(other))
    assert "not its unencrypted key" in refusal(tmp_path, TLS_CERT=str(cert), TLS_KEY=str(encrypted))


def certificate(folder: Path, name: str, password: bytes | None = None) -> tuple[Path, Path]:
    key = Ed25519PrivateKey.generate()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now, day = dt.datetime.now(dt.UTC), dt.timedelta(days=1)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + day)
    cert_file, key_file = folder / f"{name}.crt", folder / f"{name}.key"
    cert_file.write_bytes(builder.sign(key, None).public_bytes(Encoding.PEM))
    sealing = BestAvailableEncryption(password) if password else NoEncryption()
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealing))
    return cert_file, key_file


WEAK = [
    "short",
    "a" * 20,
    "changeme-changeme",
    "your-admin-secret-123",
    "Admin_Secret_Key",
    "password1234567890",
    "sk_your_api_key_here",
]


@pytest.mark.parametrize("weak", WEAK)
@pytest.mark.parametrize("exposed", [{"HOST": "0.0.0.0"}, {"HOST": "::"}, {"TRUSTED_PROXIES": "127.0.0.1"}])
def test_weak_secrets_do_not_leave_the_machine(tmp_path: Path, weak: str, exposed: dict[str, str]) -> None:
    message = refusal(tmp_path, ADMIN_SECRET=weak, **exposed)
    assert message.startswith("ADMIN_SECRET: too weak")
    assert weak not in message


@pytest.mark.parametrize("name", sorted(set(SECRETS) - set(ADDRESSES)))
def test_every_credential_is_checked_for_strength(tmp_path: Path, name: str) -> None:
    assert refusal(tmp_path, HOST="192.0.2.1", **{name: "admin"}).startswith(f"{name}: too weak")
    load(tmp_path, HOST="192.0.2.1", **{name: STRONG})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_weak_secrets_are_fine_for_trying_things_out(tmp_path: Path, host: str) -> None:
    assert load(tmp_path, HOST=host, ADMIN_SECRET="admin").admin_secret == Secret("admin")


@pytest.mark.parametrize("name", sorted(ADDRESSES))
@pytest.mark.parametrize("password", ["", *WEAK, "guest", "postgres", "hidden%2Dpost"])
def test_passwords_for_other_machines_are_checked_for_strength(tmp_path: Path, name: str, password: str) -> None:
    weak = re.sub("hidden[^@]*", password, ADDRESSES[name])
    message = refusal(tmp_path, **{name: weak})

    assert message.startswith(f"{name}: its password is too weak")
    assert not password or password not in message
    load(tmp_path, **{name: ADDRESSES[name]})


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@db/x?password=postgres",
        "postgresql://u:postgres@/x?host=db",
        "postgresql://u:postgres@127.0.0.1/x?host=127.0.0.1,db",
        "postgresql://u:postgres@127.0.0.1/x?hostaddr=192.0.2.1",
        "postgresql://u:postgres@[2001:db8::1]/x",
        "postgresql://u:pos%74gres@db/x",
    ],
)
def test_so_are_those_that_an_address_names_otherwise(tmp_path: Path, url: str) -> None:
    assert "too weak" in refusal(tmp_path, DATABASE_URL=url)


def test_rabbitmqs_usual_login_is_a_weak_one(tmp_path: Path) -> None:
    """Its clients send it where an address names none."""
    assert "too weak" in refusal(tmp_path, AMQP_URL="amqp://mq.internal:5672/licensing")
    assert "too weak" in refusal(tmp_path, AMQP_URL="amqps://mq.internal")


@pytest.mark.parametrize(
    "name,url",
    [
        ("DATABASE_URL", "postgresql://postgres:postgres@localhost/x"),
        ("DATABASE_URL", "postgresql://postgres:postgres@127.0.0.1:5432/x"),
        ("DATABASE_URL", "postgresql://postgres:postgres@/x?host=/run/postgresql"),
        ("DATABASE_URL", "postgresql://postgres:postgres@/x"),
        ("DATABASE_URL", "postgresql://service@db.internal/x"),  # a certificate, or a file of passwords
        ("AMQP_URL", "amqp://guest:guest@127.0.0.1/"),
        ("AMQP_URL", "amqp://localhost"),
        ("REDIS_URL", "redis://cache:6379/0"),
    ],
)
def test_others_are_not(tmp_path: Path, name: str, url: str) -> None:
    load(tmp_path, HOST="192.0.2.1", **{name: url})


@pytest.mark.parametrize("weak,strong", [(STRONG[:15], STRONG[:16]), ("abcd" * 5, "abcde" * 4)])
def test_what_is_just_weak_and_what_is_not(tmp_path: Path, weak: str, strong: str) -> None:
    assert "too weak" in refusal(tmp_path, HOST="192.0.2.1", ADMIN_SECRET=weak)
    load(tmp_path, HOST="192.0.2.1", ADMIN_SECRET=strong)
