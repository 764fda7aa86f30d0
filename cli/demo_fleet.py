"""A believable fleet, made up from a seed: who bought what when, on which devices it runs, what became of it.

Nothing is written here: `fleet` returns a plan, the same for the same seed and time. Names are invented, e-mail
addresses are in domains that nobody can own (RFC 2606), network addresses in a range that nobody is reached by (RFC
6598).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

DAY = timedelta(days=1)
USAGE_DAYS = 14
"""Days for which use is made up, today included."""


@dataclass(frozen=True, slots=True)
class Product:
    """A product: what its editions allow, and its versions with how many days before now each came out."""

    name: str
    features: dict[str, tuple[str, ...]]
    versions: tuple[tuple[int, str], ...]


PRODUCTS = (
    Product(
        "Planwerk",
        {"starter": ("draw",), "pro": ("draw", "export"), "enterprise": ("draw", "export", "api", "audit")},
        ((400, "4.0.2"), (90, "4.1.0"), (6, "4.2.0")),
    ),
    Product(
        "Tonlabor",
        {"starter": ("record",), "pro": ("record", "master"), "enterprise": ("record", "master", "render-farm")},
        ((400, "2.7.1"), (40, "2.8.0"), (11, "2.8.1")),
    ),
    Product(
        "Feldbuch",
        {"starter": ("notes",), "pro": ("notes", "maps"), "enterprise": ("notes", "maps", "sync")},
        ((400, "1.9.4"), (20, "2.0.0-beta3"), (3, "2.0.0")),
    ),
)

_PLACES = (
    ("DE", 1),
    ("DE", 1),
    ("AT", 1),
    ("CH", 1),
    ("FR", 1),
    ("NL", 1),
    ("GB", 0),
    ("US", -5),
    ("CA", -5),
    ("JP", 9),
)
"""Country and hours from UTC; the more often here, the more customers."""

_FIRST = (
    "Nord",
    "Alpen",
    "Rhein",
    "Stern",
    "Linden",
    "Falken",
    "Hafen",
    "Silber",
    "Eichen",
    "Morgen",
    "Wald",
    "Küsten",
)
_SECOND = (
    "bau",
    "studio",
    "werke",
    "design",
    "labor",
    "technik",
    "medien",
    "planung",
    "verlag",
    "akustik",
    "vermessung",
)
_ROOMS = ("office", "lab", "front-desk", "studio", "site", "home", "meeting", "workshop")
_SYSTEMS = (
    ("Windows", ("10", "11", "11"), "PC"),
    ("Windows", ("11", "11", "10"), "LAPTOP"),
    ("macOS", ("14.7", "15.4", "15.5"), "MacBook"),
    ("Linux", ("Debian 12", "Ubuntu 24.04"), "ws"),
)
_SEATS = {"starter": (1, 2), "pro": (3, 8), "enterprise": (12, 30)}


@dataclass(slots=True)
class Device:
    """A device: when it took its seat, and when and why it gave it up, if it did.

    `successor` is the hardware id that the seat was moved to, instead of being given up. `runs_always`: a server.
    `skew` is how far its clock is off. `lag` is how many days it takes to install an update.
    """

    hardware_id: str
    name: str
    os: str
    os_version: str
    address: str
    activated_at: datetime
    ended_at: datetime | None = None
    successor: str | None = None
    runs_always: bool = False
    skew: timedelta = timedelta(0)
    lag: int = 0


@dataclass(slots=True)
class License:
    """A licence and its story. `renewed_at`: when `expires_at` was moved to `renewed_until`."""

    customer_id: str
    email: str
    country: str
    utc_offset: timedelta
    product: Product
    edition: str
    max_devices: int
    created_at: datetime
    expires_at: datetime | None
    is_test: bool
    floating: bool
    renewed_at: datetime | None = None
    renewed_until: datetime | None = None
    revoked_at: datetime | None = None
    restored_at: datetime | None = None
    leaked: bool = False
    devices: list[Device] = field(default_factory=list)

    def ends_at(self) -> datetime | None:
        """When its term is over, renewal counted."""
        return self.renewed_until or self.expires_at

    def refusal_at(self, moment: datetime) -> str | None:
        """Why a device with a seat is refused at a moment: the code, or None where it may run."""
        if self.revoked_at and moment >= self.revoked_at and not (self.restored_at and moment >= self.restored_at):
            return "LICENSE_INACTIVE"
        ends_at = self.ends_at()
        return "LICENSE_EXPIRED" if ends_at is not None and moment > ends_at else None


def fleet(seed: int, now: datetime, count: int) -> list[License]:
    """Make up so many licences. The first of them is one whose key has leaked."""
    random = Random(seed)  # noqa: S311 - a made-up world, and it shall come out the same again
    customers = [_customer(random, number) for number in range(1, max(2, count * 3 // 5))]
    licenses = [_license(random, random.choice(customers), now) for _ in range(count)]
    _leak(licenses[0], now)
    return licenses


def _chance(random: Random, probability: float) -> bool:
    return random.random() < probability


_Customer = tuple[str, str, str, timedelta]


def _customer(random: Random, number: int) -> _Customer:
    name = random.choice(_FIRST) + random.choice(_SECOND)
    domain = name.lower().replace("ü", "ue")
    country, hours = random.choice(_PLACES)
    return f"C-{10_000 + number}", f"licences@{domain}-{number}.example", country, timedelta(hours=hours)


def _license(random: Random, customer: _Customer, now: datetime) -> License:
    customer_id, email, country, utc_offset = customer
    edition = random.choices(("starter", "pro", "enterprise"), (45, 43, 12))[0]
    created_at = _office_hour(random, now - random.randint(16, 540) * DAY, utc_offset)
    is_test = _chance(random, 0.06)
    license = License(
        customer_id=customer_id,
        email=email,
        country=country,
        utc_offset=utc_offset,
        product=random.choices(PRODUCTS, (5, 3, 2))[0],
        edition=edition,
        max_devices=random.randint(*_SEATS[edition]),
        created_at=created_at,
        expires_at=_expiry(random, created_at, is_test=is_test),
        is_test=is_test,
        floating=edition == "enterprise" and _chance(random, 0.4),
    )
    _renew(random, license, now)
    _revoke(random, license, now)
    _equip(random, license, now)
    return license


def _office_hour(random: Random, day: datetime, utc_offset: timedelta) -> datetime:
    midnight = day.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + timedelta(hours=8, minutes=random.randint(0, 540), seconds=random.randint(0, 59)) - utc_offset


def _expiry(random: Random, created_at: datetime, *, is_test: bool) -> datetime | None:
    if is_test:
        return created_at + 30 * DAY
    return None if _chance(random, 0.15) else created_at + 365 * DAY


def _renew(random: Random, license: License, now: datetime) -> None:
    if license.expires_at is None or license.is_test or _chance(random, 0.35):
        return
    renewed_at = _office_hour(random, license.expires_at - random.randint(3, 30) * DAY, license.utc_offset)
    if renewed_at < now - DAY:
        license.renewed_at, license.renewed_until = renewed_at, license.expires_at + 365 * DAY


def _revoke(random: Random, license: License, now: datetime) -> None:
    if _chance(random, 0.05):
        license.revoked_at = _office_hour(random, now - random.randint(2, 12) * DAY, license.utc_offset)
        if _chance(random, 0.25):
            license.restored_at = license.revoked_at + timedelta(hours=random.randint(1, 20))


def _equip(random: Random, license: License, now: datetime) -> None:
    """Give seats to devices early in the term; later some are given up, and some move to a new device."""
    wanted = max(1, round(license.max_devices * random.choice((0.3, 0.6, 0.8, 1.0, 1.0))))
    first_term = license.expires_at or now
    latest = min(first_term, now - 15 * DAY)
    network = f"100.{random.randint(64, 127)}.{random.randint(0, 255)}"
    for number in range(wanted):
        moment = license.created_at + min(random.expovariate(1 / 20), 200) * DAY
        activated_at = max(license.created_at + timedelta(minutes=5 + number), min(moment, latest))
        license.devices.append(_device(random, network, number, activated_at))
    for device in list(license.devices):
        ended_at = _office_hour(random, now - random.randint(2, 13) * DAY, license.utc_offset)
        if ended_at <= device.activated_at or device.runs_always:
            continue
        if _chance(random, 0.05):
            device.ended_at = ended_at
        elif _chance(random, 0.04):
            successor = _device(random, network, len(license.devices), ended_at)
            device.ended_at, device.successor = ended_at, successor.hardware_id
            license.devices.append(successor)


def _device(random: Random, network: str, number: int, activated_at: datetime) -> Device:
    os, versions, prefix = random.choices(_SYSTEMS, (5, 4, 3, 1))[0]
    room = random.choice(_ROOMS)
    return Device(
        hardware_id="HW-" + random.randbytes(10).hex().upper(),
        name=f"{prefix}-{room}-{number + 1}",
        os=os,
        os_version=random.choice(versions),
        address=f"{network}.{random.randint(2, 254)}",
        activated_at=activated_at,
        runs_always=os == "Linux" and _chance(random, 0.5),
        skew=timedelta(seconds=random.gauss(0, 2))
        if _chance(random, 0.98)
        else timedelta(days=-random.randint(30, 700)),
        lag=random.choice((0, 0, 1, 2, 4, 9, 30)),
    )


def _leak(license: License, now: datetime) -> None:
    """Let the licence be a good one, so that strangers who try its key meet its device limit."""
    license.leaked, license.is_test = True, False
    license.expires_at, license.renewed_at, license.renewed_until = now + 200 * DAY, None, None
    license.revoked_at = license.restored_at = None
    license.max_devices = sum(1 for device in license.devices if device.ended_at is None or device.successor is None)
