"""What the doctor finds, and that looking changes nothing."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from loop.config import Settings, load
from loop.services import Finding, doctor, processes
from loop.services.processes import Record, Running


def find(settings: Settings, name: str) -> Finding:
    (finding,) = [finding for finding in doctor(settings) if finding.name == name]
    return finding


def test_a_healthy_home_has_nothing_to_mend(bare_settings: Settings) -> None:
    bare_settings.make_home()
    findings = {finding.name: finding for finding in doctor(bare_settings)}
    machine = {"disk", "memory", "cores"}  # as they happen to be
    assert set(findings) >= machine | {"python", "packages", "home", "postgres", "dagster", "services", "ports"}
    assert [f for f in findings.values() if not f.ok and f.name not in machine] == []
    assert [f for f in findings.values() if f.ok and f.mend] == []
    assert [f for f in findings.values() if not f.ok and not f.mend] == []
    assert "PostgreSQL" in findings["postgres"].detail


def test_looking_makes_nothing(bare_settings: Settings) -> None:
    assert find(bare_settings, "home").ok
    assert not bare_settings.home.exists()


def test_an_open_home_and_an_open_secret_are_found(bare_settings: Settings) -> None:
    bare_settings.secret("postgres")
    secret = bare_settings.home / "secrets" / "postgres"
    bare_settings.home.chmod(0o755)
    secret.chmod(0o644)
    home = find(bare_settings, "home")
    assert (home.ok, home.mend) == (False, f"chmod 700 {bare_settings.home}")
    assert find(bare_settings, "secret") == Finding(
        "secret", False, f"others may read {secret} (mode 644)", f"chmod 600 {secret}"
    )


def test_a_home_that_cannot_be_is_found(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    home = find(Settings(home=tmp_path / "file"), "home")
    assert (home.ok, home.mend) == (False, "set LOOP_HOME to a folder of yours")


def test_a_missing_and_an_old_package_are_found(bare_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    required = ["duckdb==0.1", "no-such-package>=1", "msgspec", "absent-too; extra == 'dev'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: required)
    packages = find(bare_settings, "packages")
    assert not packages.ok
    assert packages.detail.startswith("duckdb is ")
    assert packages.detail.endswith(", expected ==0.1; no-such-package is missing")
    assert packages.mend is not None


def test_what_a_killed_up_left_is_found(bare_settings: Settings) -> None:
    with processes.locked(bare_settings):
        processes.write(
            bare_settings, Record(processes={"up": Running(1, "long ago", ""), "mlflow": processes.myself()})
        )
    services = find(bare_settings, "services")
    assert services == Finding("services", False, "running: mlflow; died: up", "loop down")


def test_a_broken_record_is_found(bare_settings: Settings) -> None:
    with processes.locked(bare_settings):
        (bare_settings.services / "services.json").write_text("{")
    assert not find(bare_settings, "services").ok


def test_a_server_of_the_users_own_is_asked(settings: Settings, tmp_path: Path) -> None:
    assert find(settings, "postgres").detail == "LOOP_POSTGRES_URL answers, version 18"
    dead = load(home=tmp_path, postgres_url="postgresql://user:hunter2@127.0.0.1:1/name")
    finding = find(dead, "postgres")
    assert not finding.ok
    assert "hunter2" not in str(finding)
