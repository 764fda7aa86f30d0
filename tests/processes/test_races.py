"""Callers that race on two API processes over one database, and a licence against a model of one."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.client import Client, Reply
from tests.support.invariants import check_invariants, check_outcomes
from tests.support.processes import Pair

DEVICES = st.sampled_from(["a", "b", "c", "d"])
PROCESSES = st.integers(0, 1)


async def test_exactly_three_of_forty_get_three_seats(pair: Pair) -> None:
    async with pair.clients() as clients:
        statuses: dict[str, int] = {}
        for race in range(5):
            license = await clients[0].new_license(max_devices=3)
            replies = await asyncio.gather(
                *(clients[n % 2].activate(license, f"pc-{n}", x_request_id=f"race-{race}-{n}") for n in range(40))
            )
            statuses |= {f"race-{race}-{n}": reply.status for n, reply in enumerate(replies)}
            refused = [reply for reply in replies if reply.status != 201]
            assert len(refused) == 37
            assert {(reply.status, reply["error_code"]) for reply in refused} == {(409, "DEVICE_LIMIT_EXCEEDED")}
            assert all(reply["details"] == {"max_devices": 3, "current_devices": 3} for reply in refused)
            devices = (await clients[1].admin("GET", f"/licenses/{license['license_id']}/devices"))["devices"]
            assert len(devices) == 3
    check_outcomes(check_invariants(pair.database), statuses)


async def test_seats_given_up_and_taken_at_once_are_never_one_too_many(pair: Pair) -> None:
    async with pair.clients() as clients:
        license = await clients[0].new_license(max_devices=2)

        async def device(number: int) -> Counter[int]:
            client, name, seen = clients[number % 2], f"pc-{number}", Counter[int]()
            for _ in range(10):
                reply = await client.activate(license, name)
                seen[reply.status] += 1
                if reply.status == 201:
                    body = {"license_key": license["license_key"], "hardware_id": name}
                    assert (await client.program("/api/v1/license/deactivate", body)).status == 200
            return seen

        seen = sum(await asyncio.gather(*map(device, range(12))), Counter[int]())
        assert seen.keys() <= {201, 409}
        assert seen[201] >= 2
    check_invariants(pair.database)


async def test_fifty_requests_with_one_idempotency_key_make_one_event_and_one_answer(pair: Pair) -> None:
    async with pair.clients() as clients:
        for race in range(4):
            license = await clients[0].new_license(max_devices=3)
            replies = await asyncio.gather(
                *(
                    clients[n % 2].activate(license, "pc-1", idempotency_key=f"race-{race}", x_request_id=f"key-{race}")
                    for n in range(50)
                )
            )
            assert {reply.status for reply in replies} <= {201, 409}
            assert {reply["error_code"] for reply in replies if reply.status == 409} <= {"IDEMPOTENCY_IN_PROGRESS"}
            answered = [reply for reply in replies if reply.status == 201]
            assert all(reply.body == answered[0].body for reply in answered)
            assert sum("Idempotency-Replayed" not in reply.headers for reply in answered) <= 1
            check_outcomes(check_invariants(pair.database), {f"key-{race}": 201})


class LicenseMachine(RuleBasedStateMachine):
    """Each request goes to whichever process hypothesis likes; the model says what must come back."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clients: list[Client]) -> None:
        super().__init__()
        self.loop = loop
        self.clients = clients

    def _call(self, reply: Any) -> Reply:
        answered: Reply = self.loop.run_until_complete(reply)
        assert answered.status < 500, answered
        return answered

    @initialize(max_devices=st.integers(1, 3))
    def issue(self, max_devices: int) -> None:
        self.license = self.loop.run_until_complete(self.clients[0].new_license(max_devices=max_devices))
        self.max_devices = max_devices
        self.is_active = True
        self.epoch = 0
        self.seats: dict[str, int] = {}
        """Device to the number of its activation."""
        self.activations = 0
        self.tokens: list[tuple[str, str, int, int]] = []
        """Token, device, activation and epoch."""

    def _refusal(self, device: str) -> str | None:
        if not self.is_active:
            return "LICENSE_INACTIVE"
        if device in self.seats:
            return None
        return "DEVICE_NOT_ACTIVATED" if len(self.seats) < self.max_devices else "DEVICE_LIMIT_EXCEEDED"

    def _take(self, device: str) -> None:
        self.activations += 1
        self.seats[device] = self.activations

    @rule(device=DEVICES, process=PROCESSES)
    def activate(self, device: str, process: int) -> None:
        reply = self._call(self.clients[process].activate(self.license, device))
        if not self.is_active:
            assert (reply.status, reply["error_code"]) == (403, "LICENSE_INACTIVE")
        elif device in self.seats:
            assert (reply.status, reply["error_code"]) == (409, "ALREADY_ACTIVATED")
        elif len(self.seats) >= self.max_devices:
            assert (reply.status, reply["error_code"]) == (409, "DEVICE_LIMIT_EXCEEDED")
        else:
            assert reply.status == 201
            self._take(device)
            assert reply["limits"] == {"max_devices": self.max_devices, "current_devices": len(self.seats)}

    @rule(device=DEVICES, process=PROCESSES, by_admin=st.booleans())
    def deactivate(self, device: str, process: int, *, by_admin: bool) -> None:
        client = self.clients[process]
        if by_admin:
            path = f"/licenses/{self.license['license_id']}/devices/deactivate"
            reply = self._call(client.admin("POST", path, {"hardware_id": device}))
        else:
            body = {"license_key": self.license["license_key"], "hardware_id": device}
            reply = self._call(client.program("/api/v1/license/deactivate", body))
        if device in self.seats:
            assert reply.status == 200
            del self.seats[device]
            assert reply["limits"] == {"max_devices": self.max_devices, "current_devices": len(self.seats)}
        else:
            assert (reply.status, reply["error_code"]) == (404, "DEVICE_NOT_FOUND")

    @rule(source=DEVICES, other=DEVICES, process=PROCESSES)
    def transfer(self, source: str, other: str, process: int) -> None:
        path = f"/licenses/{self.license['license_id']}/transfer"
        body = {"from_hardware_id": source, "to_hardware_id": other}
        reply = self._call(self.clients[process].admin("POST", path, body))
        if source == other:
            assert reply.status == 400
        elif source not in self.seats:
            assert (reply.status, reply["error_code"]) == (404, "DEVICE_NOT_FOUND")
        elif other in self.seats:
            assert (reply.status, reply["error_code"]) == (409, "ALREADY_ACTIVATED")
        else:
            assert reply.status == 200
            del self.seats[source]
            self._take(other)

    @rule(max_devices=st.integers(1, 4), process=PROCESSES)
    def change_limit(self, max_devices: int, process: int) -> None:
        path = f"/licenses/{self.license['license_id']}"
        reply = self._call(self.clients[process].admin("PATCH", path, {"max_devices": max_devices}))
        assert (reply.status, reply["max_devices"]) == (200, max_devices)
        assert reply["current_devices"] == len(self.seats)
        self.max_devices = max_devices

    @rule(process=PROCESSES)
    def revoke(self, process: int) -> None:
        reply = self._call(self.clients[process].admin("DELETE", f"/licenses/{self.license['license_id']}"))
        assert (reply.status, reply["is_active"]) == (200, False)
        self.epoch += self.is_active
        self.is_active = False

    @rule(process=PROCESSES)
    def restore(self, process: int) -> None:
        path = f"/licenses/{self.license['license_id']}"
        reply = self._call(self.clients[process].admin("PATCH", path, {"is_active": True}))
        assert (reply.status, reply["is_active"]) == (200, True)
        self.is_active = True

    @rule(device=DEVICES, process=PROCESSES)
    def validate(self, device: str, process: int) -> None:
        reply = self._call(self.clients[process].validate(self.license, device))
        expected = self._refusal(device)
        assert reply["valid"] is (expected is None)
        assert reply.status == (200 if expected is None else 403)
        assert reply.body.get("error_code") == expected
        if expected is None:
            assert reply["limits"] == {"max_devices": self.max_devices, "current_devices": len(self.seats)}

    @rule(device=DEVICES, process=PROCESSES)
    def ask_for_tokens(self, device: str, process: int) -> None:
        reply = self._call(self.clients[process].tokens(self.license, device))
        expected = self._refusal(device)
        assert reply.body.get("error_code") == expected
        if expected is None:
            self.tokens.append((reply["access_token"], device, self.seats[device], self.epoch))

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), process=PROCESSES)
    def heartbeat(self, data: st.DataObject, process: int) -> None:
        token, device, activation, epoch = data.draw(st.sampled_from(self.tokens))
        reply = self._call(self.clients[process].bearer("/api/v1/license/heartbeat", token))
        is_live = self.is_active and self.seats.get(device) == activation and self.epoch == epoch
        assert reply.status == (200 if is_live else 401), reply

    @invariant()
    def both_processes_show_the_devices_of_the_model(self) -> None:
        if not hasattr(self, "license"):
            return
        path = f"/licenses/{self.license['license_id']}/devices"
        for client in self.clients:
            devices = self._call(client.admin("GET", path))["devices"]
            assert {one["hardware_id"] for one in devices if one["is_active"]} == set(self.seats)


def test_a_licence_is_on_two_processes_what_its_model_is(pair: Pair) -> None:
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        context = pair.clients()
        clients = loop.run_until_complete(context.__aenter__())
        try:
            run_state_machine_as_test(
                lambda: LicenseMachine(loop, clients),  # type: ignore[arg-type]  # any factory will do
                settings=settings(
                    max_examples=30,
                    stateful_step_count=25,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            loop.run_until_complete(context.__aexit__(None, None, None))
    check_invariants(pair.database)
