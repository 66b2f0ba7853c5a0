"""docker-compose.yml: valid by the Compose specification, and true to the rest of the house."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from clarion import limits
from clarion.names import SEARCH_ATTRIBUTES
from clarion.seal import Seal
from clarion.store.credentials import PROVIDERS
from workers.embedded.postgres import SETTINGS
from workers.embedded.processes import SENDER_MALLOC, queues_of
from workers.embedded.temporal import DYNAMIC

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SENDERS = sorted(name for name in SERVICES if name.startswith("sender"))
SECRETS = ("database_password", "temporal_password", "clarion_key")


def test_valid_by_the_specification() -> None:
    """A strict parser of the Compose specification takes it, and every name that is used is defined."""
    # It resolves no YAML merge keys; the file after merging is what Compose sees.
    merged = yaml.safe_dump({name: part for name, part in COMPOSE.items() if not name.startswith("x-")})
    PyCompose.from_yaml(merged).validate()


def test_the_parser_is_strict() -> None:
    """A misspelled key would have been refused."""
    with pytest.raises(ValueError, match="helthcheck"):
        PyCompose.from_yaml("services: {a: {image: b, helthcheck: {disable: true}}}")


def test_ports_are_of_this_machine() -> None:
    """Nothing listens for other machines: Temporal and its UI ask nobody who they are."""
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_secrets_come_as_files() -> None:
    """No service has a password in its environment or on its command line."""
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert not re.search("PASS|PWD|KEY|SECRET", name) or str(value).startswith("/run/secrets/")
    assert "://clarion:" not in TEXT
    assert {name: secret["file"] for name, secret in COMPOSE["secrets"].items()} == {
        name: f"./deploy/secrets/{name}" for name in SECRETS
    }


def test_processes_are_those_of_dev() -> None:
    """Every queue of `clarion dev` has a process here, and the same queues are together."""
    ours = [service for service in SERVICES.values() if service.get("image") == "clarion:0.1.0"]
    here = {tuple(service["command"][3:]) for service in ours}

    assert {tuple(queues) for queues in queues_of(len(PROVIDERS)).values()} <= here


@pytest.mark.parametrize("name", SENDERS)
def test_senders_have_their_malloc(name: str) -> None:
    """Senders get the thresholds that they were measured with."""
    assert SENDER_MALLOC.items() <= SERVICES[name]["environment"].items()


def test_postgres_has_our_settings() -> None:
    """The server has the embedded one's settings, but for those that are about being a child."""
    given = dict(option[2:].split("=", 1) for option in SERVICES["postgres"]["command"][1:])
    own = {"listen_addresses", "unix_socket_directories", "max_connections", "timezone", "log_timezone"}

    assert given == {name: value for name, value in SETTINGS.items() if name not in own}
    assert SERVICES["postgres"]["image"] == "postgres:18"


def test_temporal_has_our_dynamic_configuration() -> None:
    """The file says what the embedded server is told."""
    file = yaml.safe_load((ROOT / "deploy/temporal/dynamic.yaml").read_text())

    assert {name: str(rules[0]["value"]).lower() for name, rules in file.items()} == DYNAMIC


def test_search_attributes_are_registered() -> None:
    """The script registers every name of the house, with its type."""
    script = (ROOT / "deploy/temporal/namespace.sh").read_text()

    assert dict(re.findall(r"^register (\w+) (\w+)$", script, re.MULTILINE)) == SEARCH_ATTRIBUTES


def test_everything_waits_for_what_it_needs() -> None:
    """Workers start after the schema and the namespace, which wait for healthy servers."""
    for name in ("control", *SENDERS):
        assert SERVICES[name]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "temporal-namespace": {"condition": "service_completed_successfully"},
        }
    for one_shot, server in (("migrate", "postgres"), ("temporal-namespace", "temporal")):
        assert SERVICES[one_shot]["depends_on"] == {server: {"condition": "service_healthy"}}
        assert "test" in SERVICES[server]["healthcheck"]


def test_everything_that_stays_says_how_it_is() -> None:
    """Every service that is not a one-shot has a health check, restarts, and has time to end."""
    stays = {name: one for name, one in SERVICES.items() if one["restart"] == "unless-stopped"}

    assert {"postgres", "control", *SENDERS, "temporal", "temporal-postgres", "temporal-ui"} <= set(stays)
    assert [name for name, one in stays.items() if "test" not in one.get("healthcheck", {})] == []
    for name in ("control", *SENDERS):
        assert stays[name]["stop_grace_period"] == "30s"
    assert limits.GRACEFUL_SHUTDOWN < limits.EXIT_SECONDS < 30


def test_everything_used_is_defined() -> None:
    """Volumes, secrets and services that a service names are those of the file."""
    for service in SERVICES.values():
        mounts = [volume.split(":")[0] for volume in service.get("volumes", [])]
        assert {mount for mount in mounts if "/" not in mount} <= set(COMPOSE["volumes"])
        assert all((ROOT / mount).is_dir() for mount in mounts if "/" in mount)
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        for value in service.get("environment", {}).values():
            secret = str(value).removeprefix("/run/secrets/")
            assert secret == str(value) or secret in service["secrets"]


def test_image_holds_what_it_runs() -> None:
    """Every room that a process needs is copied into the image, and no file that Docker would ignore."""
    copied = re.findall(r"^COPY (.+) \./?\S*$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    allowed = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))

    assert {"clarion", "workflows", "activities", "workers", "starters", "requirements.lock"} <= names
    assert names == allowed
    assert all((ROOT / name).exists() for name in names)


def test_secrets_are_made_once(tmp_path: Path) -> None:
    """The script writes each secret once, in a private directory, readable for the containers' users."""
    script = tmp_path / "secrets.sh"
    script.write_text((ROOT / "deploy/secrets.sh").read_text())
    made = []
    for _ in range(2):
        subprocess.run(["sh", str(script)], check=True, env={"PATH": os.environ["PATH"]})
        made.append({path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()})

    assert sorted(made[0]) == sorted(SECRETS)
    assert len(set(made[0].values())) == 3
    assert made[0] == made[1]
    assert (
        Seal.load(made[0]["clarion_key"]).open(Seal.load(made[0]["clarion_key"]).seal(b"x", "c"), "c") == b"x"
    )
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "secrets" / "clarion_key").stat().st_mode & 0o777 == 0o444
