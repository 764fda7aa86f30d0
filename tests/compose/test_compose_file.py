"""compose.yaml keeps the compose specification, and rules of ours: limits, health, no secret in the clear."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.version import VERSION
from infra.settings import SETTINGS, load_settings
from projections.registry import CONSUMERS_OF
from tests.compose.files import COMPOSE, ROOT, compose, ours, secrets_of, services

SECRETS = {setting.name for setting in SETTINGS if setting.secret}
SERVICES = sorted(services())
OURS = sorted(ours())
WORKERS = set(CONSUMERS_OF)
PORTS = {"auth": 5001, "license": 5002, "analytics": 5003, "admin": 5004}


def test_it_keeps_the_compose_specification() -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(check, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_has_every_service_and_worker() -> None:
    assert set(services()) == {"postgres", "rabbitmq", "migrate", *WORKERS, *PORTS}
    assert {name: ours()[name]["command"] for name in WORKERS} == {
        name: ["lizenzserver", "work", name] for name in WORKERS
    }


@pytest.mark.parametrize("name", SERVICES)
def test_each_has_limits_a_restart_policy_and_a_bounded_log(name: str) -> None:
    service = services()[name]
    limits = service["deploy"]["resources"]["limits"]
    assert float(limits["cpus"]) > 0
    assert limits["memory"][-1] in "MG"
    assert limits["pids"] > 0
    assert service["restart"] == ("on-failure" if name == "migrate" else "unless-stopped")
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    assert service["stop_grace_period"]


@pytest.mark.parametrize("name", SERVICES)
def test_each_says_whether_it_is_well(name: str) -> None:
    check = services()[name]["healthcheck"]
    if name == "migrate":
        assert check == {"disable": True}
    else:
        assert check["test"][0] == "CMD"
        assert {"interval", "timeout", "retries", "start_period"} <= set(check)


@pytest.mark.parametrize("name", SERVICES)
def test_none_may_more_than_it_must(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("user") == {"postgres": "postgres", "rabbitmq": "rabbitmq"}.get(name)
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(service)


def test_only_the_four_services_are_published_and_on_this_machine() -> None:
    published = {name: service["ports"] for name, service in services().items() if "ports" in service}
    assert published == {name: [f"127.0.0.1:{port}:{port}"] for name, port in PORTS.items()}


def test_ports_and_address_can_be_chosen() -> None:
    chosen = compose({"PUBLISH_ON": "10.0.0.5", "AUTH_PORT": "6001"})["services"]
    assert chosen["auth"]["ports"] == ["10.0.0.5:6001:5001"]


def test_database_and_broker_are_on_networks_that_lead_nowhere() -> None:
    networks = compose()["networks"]
    assert {name for name, network in networks.items() if network.get("internal")} == {"database", "broker"}
    on = {name: set(service["networks"]) for name, service in services().items()}
    assert on["postgres"] == {"database"}
    assert on["rabbitmq"] == {"broker"}
    assert {name for name, networks in on.items() if "broker" in networks} == {"rabbitmq", *WORKERS}


@pytest.mark.parametrize("name", SERVICES)
def test_secrets_are_files_that_are_declared(name: str) -> None:
    service, declared = services()[name], compose()["secrets"]
    mounted = secrets_of(service)
    environment: dict[str, Any] = service.get("environment", {})
    assert set(mounted) <= set(declared)
    assert not SECRETS & set(environment)
    named = {value for key, value in environment.items() if key.endswith("_FILE")}
    assert named <= set(mounted.values())
    if name in OURS:
        assert named == set(mounted.values()), "a secret that nothing reads"


def test_each_secret_is_a_file_and_somebody_reads_it() -> None:
    declared = compose({"SECRETS": "/etc/lizenzserver"})["secrets"]
    assert declared == {name: {"file": f"/etc/lizenzserver/{name}"} for name in declared}
    assert set(declared) == {name for service in services().values() for name in secrets_of(service)}


def test_no_more_know_a_secret_than_need_it() -> None:
    knowing = {name: set(secrets_of(service)) for name, service in services().items()}
    assert {name for name, known in knowing.items() if "database_owner_url" in known} == {"migrate"}
    assert {name for name, known in knowing.items() if "amqp_url" in known} == WORKERS
    assert {name for name, known in knowing.items() if "service_key" in known} == {"migrate", "anomaly", *PORTS}
    assert {name for name, known in knowing.items() if "signing_keys" in known} == set(PORTS)
    assert {name for name, known in knowing.items() if "audit_key" in known} == {"notary"}
    assert {name for name, known in knowing.items() if "admin_api_key" in known} == set(PORTS)


@pytest.mark.parametrize("name", OURS)
def test_each_environment_is_of_settings_that_there_are_and_is_taken(name: str, secrets: Path) -> None:
    service = ours()[name]
    known = {setting.name for setting in SETTINGS} | {f"{secret}_FILE" for secret in SECRETS}
    environment = {key: str(value) for key, value in service["environment"].items()}
    assert set(environment) <= known
    placed = {key: value.replace("/run/secrets", str(secrets)) for key, value in environment.items()}
    settings = load_settings(placed, None)
    assert settings.data_dir == Path("/tmp/lizenzserver")
    assert settings.host == ("0.0.0.0" if name in PORTS else "127.0.0.1")


@pytest.mark.parametrize("name", OURS)
def test_each_runs_this_version_of_the_program(name: str) -> None:
    assert ours()[name]["image"] == f"lizenzserver:{VERSION}"
    assert ours()[name]["command"][0] == "lizenzserver"


def test_what_is_mounted_from_here_is_here() -> None:
    mounted = [volume for service in services().values() for volume in service.get("volumes", [])]
    sources = [volume.split(":")[0] for volume in mounted]
    files = [source for source in sources if source.startswith(".")]
    assert all((ROOT / file).is_file() for file in files)
    assert set(sources) - set(files) == set(compose()["volumes"])
    assert all(volume.endswith(":ro") for volume in mounted if volume.startswith("."))


def test_nothing_waits_for_what_is_not_there() -> None:
    for service in services().values():
        for dependency, how in service.get("depends_on", {}).items():
            ends = dependency == "migrate"
            assert how["condition"] == ("service_completed_successfully" if ends else "service_healthy")
            assert dependency in services()
