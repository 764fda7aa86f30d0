"""Every number that detection goes by, with its unit and its reason."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

HOUR = 3600
DAY = 86_400

_LONGEST = 3650 * DAY
_MOST = 1_000_000

Span = Annotated[int, Meta(ge=1, le=_LONGEST)]
"""Seconds, and not none: something is divided by them, or would never be quiet."""
Pause = Annotated[int, Meta(ge=0, le=_LONGEST)]
"""Seconds, or none."""
Minutes = Annotated[int, Meta(ge=60, le=_LONGEST)]
"""Seconds that explanations give in whole minutes."""
Hours = Annotated[int, Meta(ge=HOUR, le=_LONGEST)]
"""Seconds that explanations give in whole hours."""
Days = Annotated[int, Meta(ge=DAY, le=_LONGEST)]
"""Seconds that explanations give in whole days."""
Points = Annotated[float, Meta(ge=0, le=100)]
Weight = Annotated[int, Meta(ge=0, le=10_000)]
"""Hundredths; 0: it counts for nothing."""
Count = Annotated[int, Meta(ge=1, le=_MOST)]
Alarm = Annotated[float, Meta(gt=0, le=_MOST)]
"""What evidence is measured against. At 0, nothing at all would be critical."""
More = Annotated[float, Meta(ge=0, le=_MOST)]


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Thresholds of all detectors. Times are in seconds, distances in kilometres; weights are hundredths of one."""

    quiet_seconds: Span = 7 * DAY
    """An alert is not repeated for so long unless it becomes worse. A week: whoever handles alerts looks weekly."""
    risk_half_life_seconds: Span = 14 * DAY
    """After so long without anything new, a reason counts half."""
    risk_points: tuple[Points, Points, Points, Points] = (20.0, 50.0, 75.0, 90.0)
    """Points of a low, medium, high and critical finding: one medium finding is medium risk, two are high."""
    settling_seconds: Pause = 3 * DAY
    """Countries seen within so long of a licence's beginning are its own."""
    fresh_factor: Count = 2
    """A licence that was just sold takes so many times longer to settle than one of which we just see the first."""
    country_new_seconds: Pause = 7 * DAY
    """A country is new for a licence for so long after a device first appeared there."""
    jobs: Alarm = 5.0
    """So many short jobs lately make a CI; its machines, known by their operating system, count for nothing even
    where they do not give their seats back."""
    jobs_half_life_seconds: Span = 7 * DAY
    """What was a CI a month ago may be none now."""
    short_job_seconds: Pause = HOUR
    """A device that gives its seat back within so long ran a job. So may a new device with a server's operating
    system: it counts only once it has lived longer. Most jobs take minutes."""

    guessing_window_seconds: Hours = DAY
    """Unknown keys of one address are counted over so long: guessing may be slow, mistyping is rare."""
    guessing_keys: Alarm = 15.0
    """Different unknown keys of one address that are an alert."""
    guessing_keys_of_one: Count = 6
    """Keys of one device that are more than mistyping; those of a device with fewer count half, since a school or an
    office with many new users behind one address gets to thirty on its first day."""

    guessing_patience_seconds: Pause = 2 * HOUR
    """Keys of one device that are spread over so long count double: who has a list of old keys is through by then."""

    leak_window_seconds: Days = 4 * DAY
    """Strangers are counted over so long: a published key is tried by many within days."""
    leak_strangers: Count = 400
    """Weight of strangers that is an alert: four in their own country. Who tries devices of their own is one or two."""
    leak_share_of_parties: More = 0.25
    """Strangers allowed on top, as a share of the unconnected parties, or half the devices, that have seats: larger
    teams have more people who try in vain."""
    leak_free_seat: Weight = 60
    """Weight of a stranger who got a free seat once the licence is settled; one who was refused weighs 100."""
    leak_foreign_factor: More = 1.67
    """How much more a stranger counts in a country that is new for the licence: three from abroad are an alert."""
    leak_country_factor: More = 2.0
    """The same for the first device that the licence ever had there. A key that is tried in two such countries within
    days has gone round: two of them are an alert."""
    leak_floating: Weight = 50
    """Weight of a stranger whom a floating licence refused: that happens to its own people at busy hours."""

    rotation_strangers: Alarm = 2.5
    """New parties that are an alert; replaced devices come one at a time, and mostly in known networks."""
    rotation_root_of_seats: More = 0.8
    """Parties allowed on top, times the square root of max_devices: larger teams replace and hire more."""
    rotation_half_life_seconds: Days = 14 * DAY
    """A new party counts half after so long: what is spread over months is ordinary replacement."""
    rotation_release: Weight = 70
    """Weight of a party that came within the seats, after somebody had given theirs up."""
    rotation_growth: Weight = 35
    """Weight of a party that came within the seats just so: teams grow. One beyond the seats weighs 100."""
    rotation_release_seconds: Pause = 2 * DAY
    """Who comes within so long after a seat was given up takes that one."""
    rotation_linked: Weight = 50
    """Weight of a device beyond the seats that came in a known network: reimaged, replaced, or sold from one shop."""
    rotation_linked_pause_seconds: Pause = DAY // 2
    """Devices that come in a known network within so long are one: a classroom or an office gets a new image."""
    rotation_settling_seconds: Pause = 5 * DAY
    """For so long a licence, or what we know of it, is new, and its devices appear one by one."""
    floating_people_per_seat: Count = 4
    """People who may share a floating seat in turn; pools are commonly sized for three to five."""

    sharing_half_life_seconds: Days = 4 * DAY
    """Seats that went back to a device count half after so long."""
    sharing_near: More = 1.0
    """Count of a seat that went back to a device that had it before, with another party in between."""
    sharing_far: More = 2.0
    """The same where the other party is in another country: two machines of one person are not."""
    sharing_returns: Alarm = 5.0
    """Count that is an alert. Two machines of one person may need some days until they meet in a network."""

    travel_km: More = 500.0
    """Below that, positions by address are too coarse."""
    travel_km_per_hour: More = 1000.0
    """Faster than airliners."""
    travel_most_seats: Count = 12
    """Larger teams, and floating ones of several seats, are spread over the world without anything being wrong."""
    travel_incidents: Alarm = 1.0
    """Incidents that are an alert where all other devices are one party: one person's, a household's, an office's."""
    travel_incidents_a_party: More = 1.0
    """Incidents more for each further party: a team may have a new member abroad, or one whose new laptop travels."""
    travel_few_seats: Count = 4
    """Up to so many seats a licence may be one person's."""
    travel_incidents_a_seat: More = 0.25
    """Incidents more for each further seat."""
    travel_pause_seconds: Pause = 4 * HOUR
    """Incidents within so long are one: the same two people at work."""
    travel_half_life_seconds: Span = 2 * DAY
    """Incidents count half after so long."""

    clone_return_seconds: Hours = 3 * HOUR
    """A device that is back in a network within so long, having been in another, counts as a return."""
    clone_pause_seconds: Pause = 900
    """Returns within so long are one: a program that retries over two lines moves with every request."""
    clone_no_return: Weight = 50
    """What a move to a network where the device was not lately takes off: a pool of addresses makes such moves."""
    clone_far: Weight = 150
    """Weight of a return between places that nobody gets between in that time; one nearby weighs 100."""
    clone_clash: Weight = 200
    """Weight of a return with a heartbeat that comes too early for one program: four within a day are an alert."""
    clone_clash_far: Weight = 300
    """The same between places that nobody gets between in that time: three are an alert."""
    clone_early_share: More = 0.7
    """Too early is what comes within this share of the device's own pause between heartbeats."""
    clone_in_time: Weight = 33
    """Weight of a return of a device with a rhythm where that says nothing. One that keeps it weighs nothing."""
    clone_other_family: Weight = 50
    """Weight of a return between IPv4 and IPv6: a device may use both at one place."""
    clone_returns: Count = 600
    """Weight of returns that is an alert. A laptop makes two or three a day between office, mobile and home."""
    clone_half_life_seconds: Span = 2 * DAY
    """Returns count half after so long."""
    clone_settling_seconds: Pause = 2 * DAY
    """A device that returns so often within so long of its first day is restless by nature, ..."""
    clone_restless_factor: Count = 3
    """... in an office with several lines for example: it takes so many times more."""

    hammer_floor: Count = 10
    """Requests in a slot that are no hammering: one a minute, as a long job may send."""
    hammer_times_peak: More = 2.5
    """How far above the device's own peak a slot must be: a new version may ask twice as often."""
    hammer_run: Count = 120
    """Requests beyond that without a pause that are an alert; who retries after an outage stops before."""
    hammer_burst: Count = 300
    """Requests within one slot that are an alert at once: one each two seconds."""

    clock_behind_seconds: Pause = 15 * HOUR
    """A clock that is behind by more is not in a wrong time zone, which is 14 hours at most."""
    clock_longest_seconds: Pause = 400 * DAY
    """A clock that is further before the expiry has lost its date; who cheats sets it back into the term, mostly a
    year."""
    clock_rollbacks: Count = 2
    """Readings that are an alert where nobody saw the clock right before; else one is."""


DEFAULT = Thresholds()
