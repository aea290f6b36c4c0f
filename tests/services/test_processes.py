"""Who runs, by pid and birth; the record; locks and users; ending a family whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from loop.config import Settings
from loop.errors import LoopError
from loop.services import processes
from loop.services.processes import Record, Running

FAMILY = """
import subprocess, sys, time
subprocess.Popen(["sleep", "300"])
subprocess.Popen(["sleep", "300"], start_new_session=True)
print("ready", flush=True)
time.sleep(300)
"""


def spawn(settings: Settings, name: str, code: str) -> Running:
    with processes.locked(settings):
        running = processes.spawn(
            settings, name, [sys.executable, "-c", code], address="", env=dict(os.environ), cwd=settings.services
        )
    until = time.monotonic() + 20
    while "ready" not in processes.tail(settings, name) and time.monotonic() < until:
        time.sleep(0.01)
    assert "ready" in processes.tail(settings, name)
    return running


def marked(settings: Settings, name: str) -> list[psutil.Process]:
    return processes._family(settings, name, None)


def test_a_pid_that_was_given_to_somebody_else_is_not_ours(bare_settings: Settings) -> None:
    me = processes.myself()
    assert me.alive
    assert not Running(me.pid, me.birth + "0", "").alive
    bystander = subprocess.Popen(["sleep", "300"])
    try:
        with processes.locked(bare_settings):
            processes.note(bare_settings, "mlflow", Running(bystander.pid, "long before", ""))
            assert not processes.stop(bare_settings, "mlflow")
        assert bystander.poll() is None
        assert processes.read(bare_settings) == Record()
    finally:
        bystander.kill()
        bystander.wait()


def test_the_dead_are_dead_before_their_parent_has_noticed() -> None:
    child = subprocess.Popen(["true"])
    running = Running(child.pid, processes.birth(child.pid) or "ended", "")
    until = time.monotonic() + 5
    while running.alive and time.monotonic() < until:
        time.sleep(0.01)
    assert not running.alive
    assert psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE
    child.wait()


def test_stop_ends_children_and_those_that_left_the_group(bare_settings: Settings) -> None:
    running = spawn(bare_settings, "mlflow", FAMILY)
    assert len(marked(bare_settings, "mlflow")) == 3
    with processes.locked(bare_settings):
        assert processes.stop(bare_settings, "mlflow")
    assert marked(bare_settings, "mlflow") == []
    assert not running.alive


def test_stop_finds_orphans_of_a_parent_that_was_killed(bare_settings: Settings) -> None:
    running = spawn(bare_settings, "mlflow", FAMILY)
    os.kill(running.pid, signal.SIGKILL)
    psutil.Process(running.pid).wait(5)
    assert len(marked(bare_settings, "mlflow")) == 2
    with processes.locked(bare_settings):
        assert processes.stop(bare_settings, "mlflow")
    assert marked(bare_settings, "mlflow") == []


def test_stop_kills_what_does_not_listen(bare_settings: Settings) -> None:
    running = spawn(bare_settings, "mlflow", f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN){FAMILY}")
    with processes.locked(bare_settings):
        assert processes.stop(bare_settings, "mlflow", patience=0.2)
    assert not running.alive


def test_stop_leaves_other_services_and_other_homes_alone(bare_settings: Settings, tmp_path: Path) -> None:
    other = Settings(home=tmp_path / "other")
    spawn(bare_settings, "mlflow", FAMILY)
    spawn(bare_settings, "daemon", FAMILY)
    spawn(other, "mlflow", FAMILY)
    with processes.locked(bare_settings):
        processes.stop(bare_settings, "mlflow")
    left = (marked(bare_settings, "mlflow"), marked(bare_settings, "daemon"), marked(other, "mlflow"))
    assert [len(family) for family in left] == [0, 3, 3]
    for settings, name in ((bare_settings, "daemon"), (other, "mlflow")):
        with processes.locked(settings):
            processes.stop(settings, name)


def test_a_log_of_the_run_before_is_kept(bare_settings: Settings) -> None:
    for word in ("first", "second"):
        spawn(bare_settings, "mlflow", f"print('{word} ready')")
        with processes.locked(bare_settings):
            processes.stop(bare_settings, "mlflow")
    assert processes.tail(bare_settings, "mlflow") == "second ready"
    assert (bare_settings.services / "mlflow.log.1").read_text() == "first ready\n"
    assert (bare_settings.services / "mlflow.log").stat().st_mode & 0o777 == 0o600


def test_a_record_comes_back_as_it_was(bare_settings: Settings) -> None:
    record = Record(keep=True, processes={"up": processes.myself()}, ports={"mlflow": 5000})
    with processes.locked(bare_settings):
        processes.write(bare_settings, record)
    assert processes.read(bare_settings) == record
    assert (bare_settings.services / "services.json").stat().st_mode & 0o777 == 0o600
    assert Record() == Record(keep=False, processes={}, ports={})


def test_a_record_that_is_none_says_so(bare_settings: Settings) -> None:
    with processes.locked(bare_settings):
        (bare_settings.services / "services.json").write_text('{"processes": 3}')
    with pytest.raises(LoopError, match=r"services\.json: expected the record .*remove the file"):
        processes.read(bare_settings)


def test_one_holds_the_lock_and_the_next_waits(bare_settings: Settings) -> None:
    with processes.locked(bare_settings):
        with pytest.raises(LoopError, match="another command holds"), processes.locked(bare_settings, patience=0.1):
            pytest.fail("two hold one lock")
        with processes.locked(bare_settings, "another"):
            pass
    with processes.locked(bare_settings, patience=0.0):
        pass


def test_the_last_user_out_is_told_so(bare_settings: Settings) -> None:
    with processes.locked(bare_settings):
        first, second = processes.join(bare_settings), processes.join(bare_settings)
        assert not processes.leave(first)
        assert processes.leave(second)


def test_a_user_who_is_killed_has_left(bare_settings: Settings) -> None:
    code = """
from loop import config
from loop.services import processes
processes.join(config.load())
print("in", flush=True)
input()
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "in\n"
    with processes.locked(bare_settings):
        mine = processes.join(bare_settings)
        assert not processes.leave(mine)
        other.kill()
        other.communicate()
        assert processes.leave(processes.join(bare_settings))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_reaches_finally_once(number: signal.Signals) -> None:
    code = f"""
import os, signal
from loop.services.processes import exit_on_signals
with exit_on_signals():
    try:
        os.kill(os.getpid(), {number})
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        print("cleaned", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (128 + number, "cleaned\n")


def test_signal_handlers_of_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with processes.exit_on_signals():
        ours = signal.getsignal(signal.SIGTERM)
        with processes.exit_on_signals():
            assert signal.getsignal(signal.SIGTERM) is ours
        assert signal.getsignal(signal.SIGTERM) is ours
    assert signal.getsignal(signal.SIGTERM) is before
