"""Every number that detection goes by, with its unit and its reason."""

from __future__ import annotations

import msgspec

HOUR = 3600
DAY = 86_400


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Thresholds of all detectors. Times are in seconds, distances in kilometres; weights are hundredths of one."""

    quiet_seconds: int = 7 * DAY
    """An alert is not repeated for so long unless it becomes worse. A week: whoever handles alerts looks weekly."""
    risk_half_life_seconds: int = 14 * DAY
    """After so long without anything new, a reason counts half."""
    risk_points: tuple[float, float, float, float] = (20.0, 50.0, 75.0, 90.0)
    """Points of a low, medium, high and critical finding: one medium finding is medium risk, two are high."""
    settling_seconds: int = 3 * DAY
    """Countries seen within so long of a licence's beginning are its own."""
    fresh_factor: int = 2
    """A licence that was just sold takes so many times longer to settle than one of which we just see the first."""
    country_new_seconds: int = 7 * DAY
    """A country is new for a licence for so long after a device first appeared there."""
    jobs: float = 5.0
    """So many short jobs lately make a CI; its machines, known by their operating system, count for nothing even
    where they do not give their seats back."""
    jobs_half_life_seconds: int = 7 * DAY
    """What was a CI a month ago may be none now."""
    short_job_seconds: int = HOUR
    """A device that gives its seat back within so long ran a job. So may a new device with a server's operating
    system: it counts only once it has lived longer. Most jobs take minutes."""

    guessing_window_seconds: int = DAY
    """Unknown keys of one address are counted over so long: guessing may be slow, mistyping is rare."""
    guessing_keys: float = 15.0
    """Different unknown keys of one address that are an alert."""
    guessing_keys_of_one: int = 6
    """Keys of one device that are more than mistyping; those of a device with fewer count half, since a school or an
    office with many new users behind one address gets to thirty on its first day."""

    leak_window_seconds: int = 4 * DAY
    """Strangers are counted over so long: a published key is tried by many within days."""
    leak_strangers: int = 500
    """Weight of strangers that is an alert. Who tries a few devices of their own is one or two strangers."""
    leak_share_of_parties: float = 0.25
    """Strangers allowed on top, as a share of the unconnected parties, or half the devices, that have seats: larger
    teams have more people who try in vain."""
    leak_free_seat: int = 60
    """Weight of a stranger who got a free seat once the licence is settled; one who was refused weighs 100."""
    leak_foreign_factor: float = 1.67
    """How much more a stranger counts in a country that is new for the licence: three from abroad are an alert."""
    leak_floating: int = 50
    """Weight of a stranger whom a floating licence refused: that happens to its own people at busy hours."""

    rotation_strangers: float = 2.5
    """New parties that are an alert; replaced devices come one at a time, and mostly in known networks."""
    rotation_root_of_seats: float = 0.8
    """Parties allowed on top, times the square root of max_devices: larger teams replace and hire more."""
    rotation_half_life_seconds: int = 14 * DAY
    """A new party counts half after so long: what is spread over months is ordinary replacement."""
    rotation_release: int = 70
    """Weight of a party that came within the seats, after somebody had given theirs up."""
    rotation_growth: int = 35
    """Weight of a party that came within the seats just so: teams grow. One beyond the seats weighs 100."""
    rotation_release_seconds: int = 2 * DAY
    """Who comes within so long after a seat was given up takes that one."""
    rotation_linked: int = 50
    """Weight of a device beyond the seats that came in a known network: reimaged, replaced, or sold from one shop."""
    rotation_linked_pause_seconds: int = DAY // 2
    """Devices that come in a known network within so long are one: a classroom or an office gets a new image."""
    rotation_settling_seconds: int = 5 * DAY
    """For so long a licence, or what we know of it, is new, and its devices appear one by one."""
    floating_people_per_seat: int = 4
    """People who may share a floating seat in turn; pools are commonly sized for three to five."""

    sharing_half_life_seconds: int = 4 * DAY
    """Seats that went back to a device count half after so long."""
    sharing_near: float = 1.0
    """Count of a seat that went back to a device that had it before, with another party in between."""
    sharing_far: float = 2.0
    """The same where the other party is in another country: two machines of one person are not."""
    sharing_returns: float = 5.0
    """Count that is an alert. Two machines of one person may need some days until they meet in a network."""

    travel_km: float = 500.0
    """Below that, positions by address are too coarse."""
    travel_km_per_hour: float = 1000.0
    """Faster than airliners."""
    travel_most_seats: int = 12
    """Larger teams, and floating ones, are spread over the world without anything being wrong."""
    travel_incidents: float = 1.0
    """Incidents that are an alert where all other devices are one party: one person's, a household's, an office's."""
    travel_incidents_a_party: float = 1.0
    """Incidents more for each further party: a team may have a new member abroad, or one whose new laptop travels."""
    travel_few_seats: int = 4
    """Up to so many seats a licence may be one person's."""
    travel_incidents_a_seat: float = 0.25
    """Incidents more for each further seat."""
    travel_pause_seconds: int = 4 * HOUR
    """Incidents within so long are one: the same two people at work."""
    travel_half_life_seconds: int = 2 * DAY
    """Incidents count half after so long."""

    clone_return_seconds: int = 3 * HOUR
    """A device that is back in a network within so long, having been in another, counts as a return."""
    clone_pause_seconds: int = 900
    """Returns within so long are one: a program that retries over two lines moves with every request."""
    clone_no_return: int = 50
    """What a move to a network where the device was not lately takes off: a pool of addresses makes such moves."""
    clone_far: int = 150
    """Weight of a return between places that nobody gets between in that time; one nearby weighs 100."""
    clone_other_family: int = 50
    """Weight of a return between IPv4 and IPv6: a device may use both at one place."""
    clone_returns: int = 600
    """Weight of returns that is an alert. A laptop makes two or three a day between office, mobile and home."""
    clone_half_life_seconds: int = 2 * DAY
    """Returns count half after so long."""
    clone_settling_seconds: int = 2 * DAY
    """A device that returns so often within so long of its first day is restless by nature, ..."""
    clone_restless_factor: int = 3
    """... in an office with several lines for example: it takes so many times more."""

    hammer_slot_seconds: int = 600
    """Requests are counted over so long."""
    hammer_floor: int = 10
    """Requests in a slot below which nothing is hammering: one a minute."""
    hammer_times_peak: float = 2.5
    """How far above the device's own peak a slot must be: a new version may ask twice as often."""
    hammer_run: int = 160
    """Requests without a pause that are an alert; who retries after an outage stops before."""
    hammer_burst: int = 300
    """Requests within one slot that are an alert at once: one each two seconds."""

    clock_behind_seconds: int = 15 * HOUR
    """A clock that is behind by more is not in a wrong time zone, which is 14 hours at most."""
    clock_longest_seconds: int = 400 * DAY
    """A clock that is further before the expiry has lost its date; who cheats sets it back into the term, mostly a
    year."""
    clock_rollbacks: int = 2
    """Readings that are an alert where nobody saw the clock right before; else one is."""


DEFAULT = Thresholds()
