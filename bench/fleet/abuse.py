"""Which licences are abused, and how: about one in twelve subjects, over all eight kinds."""

from __future__ import annotations

from collections.abc import Callable

from bench.fleet.licence import Abuse, Licence
from bench.fleet.resale import cloned_hardware_id, reseller_rotation
from bench.fleet.seeds import DAY, Dice
from bench.fleet.strangers import credential_sharing, impossible_travel, leaked_key
from bench.fleet.tampering import clock_rollback, hammering
from bench.fleet.world import World

SHARE = 0.08
GUESSING = "key_guessing"
PEOPLE = ("alone", "team", "company")
Doing = Callable[[World, Dice, Licence], Abuse]
KINDS: dict[str, tuple[Doing, tuple[str, ...]]] = {
    "leaked_key": (leaked_key, ("alone", "team", "company", "floating")),
    "credential_sharing": (credential_sharing, ("alone",)),
    "impossible_travel": (impossible_travel, ("alone",)),
    "cloned_hardware_id": (cloned_hardware_id, PEOPLE),
    "reseller_rotation": (reseller_rotation, ("team", "company", "alone")),
    "hammering": (hammering, ("alone", "team", "company", "classroom")),
    "clock_rollback": (clock_rollback, PEOPLE),
}


def shares(dice: Dice, licences: int) -> dict[str, int]:
    """Return how many subjects each kind has: at least one, together about `SHARE` of the licences."""
    kinds = [*KINDS, GUESSING]
    wanted = max(len(kinds), round(SHARE * licences))
    numbers = dict.fromkeys(kinds, wanted // len(kinds))
    for kind in dice.sample(kinds, wanted % len(kinds)):
        numbers[kind] += 1
    if numbers[GUESSING] > 1:
        more, fewer = dice.sample(list(KINDS), 2)
        numbers[more] += 1
        numbers[fewer] -= 1
    return numbers


def commit(world: World, dice: Dice, licences: list[Licence], numbers: dict[str, int]) -> None:
    """Choose licences in use that fit, and do it to them; each has one kind at most."""
    earliest = world.window.end - 12 * DAY
    for kind, (do, sorts) in KINDS.items():
        fitting = [licence for licence in licences if licence.sort in sorts and _suits(world, licence, earliest)]
        for number, licence in enumerate(dice.sample(fitting, min(numbers[kind], len(fitting)))):
            licence.abuse = do(world, dice.of(kind, number), licence)


def _suits(world: World, licence: Licence, earliest: float) -> bool:
    """Tell whether a licence is in regular use, long enough, and can be abused without its end coming between."""
    regular = len(licence.intents) > world.window.days
    settled = licence.sort != "alone" or not licence.changed
    goes_on = licence.expires_at is None or licence.expires_at > world.window.end
    return regular and settled and goes_on and not licence.abuse and licence.issued_at < earliest
