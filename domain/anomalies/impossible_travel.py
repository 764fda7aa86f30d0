"""Impossible travel: two devices are used by people in places too far apart for the time between.

Ordinary life: a laptop travels, and its colleagues stay; a VPN makes a device jump; a team has members abroad, and had
them before. So one of the two must be new, seen in one country only, which is new for the licence, and must share no
network with the other.
"""

from __future__ import annotations

from domain.anomalies.countries import Place, kilometres, kilometres_between
from domain.anomalies.findings import NOTHING, grade
from domain.anomalies.scene import Scene
from domain.anomalies.state import COUNTRIES, PRESENCES, Device, LicenseState, Presence, decayed
from domain.anomalies.thresholds import HOUR, Thresholds

Spot = tuple[str, Place | None]
"""A country, and where in it as far as that is known."""


def know_country(state: LicenseState, country: str, now: int) -> None:
    """Remember when a device first appeared in a country, as long as there is room; later ones are as good as known."""
    if country not in state.countries and len(state.countries) < COUNTRIES:
        state.countries[country] = now


def is_new(state: LicenseState, country: str, now: int, thresholds: Thresholds) -> bool:
    """Tell whether a country is new for a licence, and the licence is not new itself."""
    first = state.countries.get(country)
    if first is None:
        return False
    settled = state.first + thresholds.settling_seconds * (thresholds.fresh_factor if state.is_fresh else 1)
    return first > settled and now - first < thresholds.country_new_seconds


def is_out_of_reach(here: Spot, there: Spot, seconds: float, thresholds: Thresholds) -> bool:
    """Tell whether nobody can have got from one place to the other in that time."""
    far = kilometres(here[1], there[1]) if here[1] and there[1] else kilometres_between(here[0], there[0])
    return far > thresholds.travel_km and far > thresholds.travel_km_per_hour * abs(seconds) / HOUR


def observe(scene: Scene, device: Device, country: str, thresholds: Thresholds) -> tuple[int, str]:
    """Take note of somebody at work; return the rank of what is impossible about it, and the other country."""
    state, now = scene.state, scene.now
    if (state.floating and state.max_devices > 1) or state.max_devices > thresholds.travel_most_seats:
        return NOTHING, ""
    here = (country, scene.seen.place)
    other = _contradiction(scene, device, here, thresholds)
    _be_present(scene, device, here)
    if not other or (state.travel and now - state.travel_at < thresholds.travel_pause_seconds):
        return NOTHING, ""
    state.travel = decayed(state.travel, state.travel_at, now, thresholds.travel_half_life_seconds) + 1.0
    state.travel_at = now
    return grade(state.travel, _limit(state, thresholds)), other


def _be_present(scene: Scene, device: Device, here: Spot) -> None:
    presences, country = scene.state.presences, here[0]
    presence = presences.get(country)
    if presence is None:
        if len(presences) >= PRESENCES:
            del presences[min(presences, key=lambda key: presences[key].time)]
        presences[country] = Presence(scene.now, scene.name, device.group, here[1])
    else:
        presence.time, presence.device, presence.group, presence.place = scene.now, scene.name, device.group, here[1]


def _contradiction(scene: Scene, device: Device, here: Spot, thresholds: Thresholds) -> str:
    """Return the country where somebody else is, as nobody can be; empty where there is none."""
    state, now = scene.state, scene.now
    for country, presence in state.presences.items():
        if presence.device == scene.name or presence.group == device.group:
            continue
        if not is_out_of_reach(here, (country, presence.place), now - presence.time, thresholds):
            continue
        there = state.devices.get(presence.device)
        if there is not None and (
            _is_newcomer(state, device, here[0], now, thresholds)
            or _is_newcomer(state, there, country, now, thresholds)
        ):
            return country
    return ""


def _limit(state: LicenseState, thresholds: Thresholds) -> float:
    # One of the parties is the newcomer.
    parties = max(2, len({device.group for device in state.devices.values() if device.is_accepted}))
    seats = max(0, state.max_devices - thresholds.travel_few_seats)
    more = (parties - 2) * thresholds.travel_incidents_a_party + seats * thresholds.travel_incidents_a_seat
    return thresholds.travel_incidents + more


def _is_newcomer(state: LicenseState, device: Device, country: str, now: int, thresholds: Thresholds) -> bool:
    return device.countries == 1 and not device.is_old and is_new(state, country, now, thresholds)


def explain(state: LicenseState, country: str, other: str) -> str:
    """Say it in one sentence."""
    far = kilometres_between(country, other)
    distance = f"at least {far:.0f} km apart" if far else "far apart"
    times = round(state.travel)
    often = f", {times} times lately" if times > 1 else ""
    return (
        f"Devices that share no network are used in {other} and {country}, {distance}, in less time than anybody needs"
        f" to get from one to the other{often}."
    )
