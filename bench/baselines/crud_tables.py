"""Tables of the plain CRUD licence server, and as many rows in them as the licences of ours."""

from __future__ import annotations

import hashlib
from datetime import datetime
from urllib.parse import urlencode

from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import ARRAY, ForeignKey, Text, UniqueConstraint, create_engine, func, text
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    """Base of all tables. Times are with time zone, lists of texts are arrays."""

    type_annotation_map = {datetime: TIMESTAMP(timezone=True), list[str]: ARRAY(Text)}  # noqa: RUF012 - SQLAlchemy's way


class ApiKey(Base):
    """An API key, by its digest."""

    __tablename__ = "api_keys"

    id: Mapped[int] = mapped_column(primary_key=True)
    key_hash: Mapped[str] = mapped_column(unique=True)
    client_name: Mapped[str]
    is_active: Mapped[bool] = mapped_column(default=True)


class License(Base):
    """A licence."""

    __tablename__ = "licenses"

    id: Mapped[int] = mapped_column(primary_key=True)
    license_key: Mapped[str] = mapped_column(unique=True)
    customer_id: Mapped[str] = mapped_column(index=True)
    product: Mapped[str | None]
    edition: Mapped[str | None]
    max_devices: Mapped[int]
    features: Mapped[list[str]]
    is_active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]


class Device(Base):
    """A device with a seat."""

    __tablename__ = "devices"
    __table_args__ = (UniqueConstraint("license_id", "hardware_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    license_id: Mapped[int] = mapped_column(ForeignKey("licenses.id"))
    hardware_id: Mapped[str]
    is_active: Mapped[bool] = mapped_column(default=True)
    activated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Usage(Base):
    """A validation."""

    __tablename__ = "usage"

    id: Mapped[int] = mapped_column(primary_key=True)
    license_id: Mapped[int] = mapped_column(ForeignKey("licenses.id"), index=True)
    api_key_id: Mapped[int] = mapped_column(ForeignKey("api_keys.id"))
    hardware_id: Mapped[str]
    address: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.now())


_LICENSES = """
    INSERT INTO licenses (license_key, customer_id, product, edition, max_devices, features, is_active)
    SELECT 'LIC-' || lpad(n::text, 12, '0'), 'customer-' || n, 'Planwerk', 'pro', :seats, '{draw,export}', true
    FROM generate_series(0, :count - 1) AS n
"""

_DEVICES = """
    INSERT INTO devices (license_id, hardware_id, is_active)
    SELECT id, 'pc-' || substr(license_key, 5), true FROM licenses
"""


def key_hash(api_key: str) -> str:
    """Return the digest by which an API key is stored."""
    return hashlib.sha256(api_key.encode()).hexdigest()


def address(conninfo: str, driver: str) -> str:
    """Return a database's address as SQLAlchemy takes it."""
    given = {name: str(value) for name, value in conninfo_to_dict(conninfo).items()}
    return f"postgresql+{driver}://{given['user']}@/{given['dbname']}?{urlencode({'host': given['host']})}"


def prepare(conninfo: str, count: int, api_key: str, seats: int) -> None:
    """Make tables, an API key, and so many licences with a device each, numbered as in bench/fill.py."""
    engine = create_engine(address(conninfo, "psycopg"))
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(ApiKey(key_hash=key_hash(api_key), client_name="benchmark", is_active=True))
        session.execute(text(_LICENSES), {"count": count, "seats": seats})
        session.execute(text(_DEVICES))
        session.commit()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM (ANALYZE)"))
    engine.dispose()
