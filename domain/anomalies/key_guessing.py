"""Key guessing: one address sends many keys that nobody issued.

Ordinary life: a mistyped key two or three times; a program that goes on with the key of a deleted licence, which is one
key however often; an office address behind which many people mistype.
"""

from __future__ import annotations

from domain.anomalies.findings import MAX_EVIDENCE, NOTHING, grade
from domain.anomalies.observation import Observation, tag
from domain.anomalies.state import AddressState, packed
from domain.anomalies.thresholds import Thresholds
from domain.anomalies.words import span

KEYS_KEPT = 64
_NO_DEVICE = 0


def observe(state: AddressState, seen: Observation, now: int, thresholds: Thresholds) -> int:
    """Take an unknown key; return the rank of what the address has done by now."""
    key = tag(seen.key_hash or "")
    known = state.keys.get(key)
    if known is not None:
        state.keys[key] = (now, known[1])
        state.last = max(state.last, now)
        return NOTHING
    _forget(state, now - thresholds.guessing_window_seconds)
    if len(state.keys) >= KEYS_KEPT:
        del state.keys[min(state.keys, key=lambda old: state.keys[old][0])]
        state.more += 1
    state.ids.append(packed(seen.id))
    del state.ids[:-MAX_EVIDENCE]
    state.keys[key] = (now, tag(seen.hardware_id) if seen.hardware_id is not None else _NO_DEVICE)
    state.last = max(state.last, now)
    return grade(_weight(state, thresholds), thresholds.guessing_keys)


def _weight(state: AddressState, thresholds: Thresholds) -> float:
    tried: dict[int, list[int]] = {}
    for seen, device in state.keys.values():
        tried.setdefault(device, []).append(seen)
    weight = float(len(state.keys) + state.more)
    for device, times in tried.items():
        if len(times) < thresholds.guessing_keys_of_one:
            weight -= len(times) / 2
        elif device != _NO_DEVICE and max(times) - min(times) >= thresholds.guessing_patience_seconds:
            weight += len(times)
    return weight


def _forget(state: AddressState, oldest: int) -> None:
    if state.last < oldest:
        state.more = 0
        state.ids.clear()
    if any(seen < oldest for seen, _ in state.keys.values()):
        state.keys = {key: (seen, device) for key, (seen, device) in state.keys.items() if seen >= oldest}


def count(state: AddressState) -> int:
    """Return how many different unknown keys the address has sent lately."""
    return len(state.keys) + state.more


def explain(state: AddressState, thresholds: Thresholds) -> str:
    """Say it in one sentence."""
    lately = span(thresholds.guessing_window_seconds)
    return f"This address tried {count(state)} different licence keys that do not exist within {lately}."
