"""`loop token`, `loop key`, `loop gateway` as a person and a program meet them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loop.config import Settings
from loop.gateway.access import Gate, Refused
from loop.home import open_home
from loop.services import session

Command = Callable[..., tuple[int, str, str]]
MAKE = ("token", "create", "--tool", "ads desk", "--workflow", "ads", "--scope", "suggest", "--scope", "feedback")


def answered(loop: Command, *arguments: str) -> Any:
    code, out, err = loop(*arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_a_token_is_shown_once_and_opens_the_gate(loop: Command, settings: Settings) -> None:
    made = answered(loop, *MAKE, "--purpose", "training", "--per-minute", "60")
    token, secret = made.pop("token"), made["token_id"]
    assert token.startswith(f"loop_{secret}_")
    assert {k: made[k] for k in ("tool", "workflows", "scopes", "purposes", "per_minute", "revoked_at")} == {
        "tool": "ads desk",
        "workflows": ["ads"],
        "scopes": ["suggest", "feedback"],
        "purposes": ["training"],
        "per_minute": 60,
        "revoked_at": None,
    }
    with session(settings):
        gate = Gate(settings)
        gate.refresh()
        assert gate.admit(f"Bearer {token}", "feedback").tool == "ads desk"
    hidden = token.split("_")[2]
    for command in (("token", "list"), ("token", "list", "--json"), ("sql", "SELECT * FROM tokens"), ("status",)):
        code, out, err = loop(*command)
        assert code == 0
        assert hidden not in out + err
    found = [path for path in settings.home.rglob("*") if path.is_file() and hidden.encode() in path.read_bytes()]
    assert found == [], "the secret stands nowhere"

    ended = answered(loop, "token", "revoke", made["token_id"])
    assert ended["revoked_at"]
    gate.refresh()
    with pytest.raises(Refused):
        gate.admit(f"Bearer {token}", "feedback")
    gate.close()
    (listed,) = answered(loop, "token", "list")["tokens"]
    assert listed == ended
    acts = answered(loop, "sql", "SELECT action, subject FROM audit ORDER BY action")["rows"]
    assert acts == [
        {"action": "token.create", "subject": made["token_id"]},
        {"action": "token.revoke", "subject": made["token_id"]},
    ]


def test_a_shell_gets_the_token_alone(loop: Command) -> None:
    code, out, err = loop(*MAKE)
    assert code == 0
    assert out.startswith("loop_")
    assert len(out.strip()) == len("loop__") + 12 + 64
    assert "shown this once" in err
    assert "Without --purpose training" in err
    assert "Without --purpose" not in loop(*MAKE, "--purpose", "training")[2]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("token", "create", "--tool", "x", "--workflow", "cooking", "--scope", "suggest"), "expected some of ads"),
        (("token", "create", "--tool", "x", "--workflow", "ads", "--scope", "root"), "expected some of suggest"),
        (("token", "create", "--tool", "x", "--workflow", "ads", "--scope", "erase", "--per-minute", "0"), "got 0"),
        (("token", "revoke", "0123456789ab"), "loop token list"),
        (("gateway", "--port", "70000"), "gateway_port"),
        (("gateway", "--upstream", "models.example"), "upstream_url"),
        (("gateway", "--tls-key", "front.key"), "belong together"),
        (("gateway", "--tls-key", "front.key", "--tls-certificate", "front.pem"), "expected a PEM file at"),
    ],
)
def test_bad_input_ends_with_2_and_says_what_to_do(loop: Command, arguments: tuple[str, ...], says: str) -> None:
    code, out, err = loop(*arguments, "--json")
    assert code == 2
    assert says in json.loads(out)["error"]
    assert "Traceback" not in err


def test_without_the_database_nobody_makes_a_token(loop: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOP_POSTGRES_URL", "postgresql://user:hunter2@127.0.0.1:1/none")
    code, out, err = loop(*MAKE)
    assert code == 1
    assert out == ""
    assert "could not connect" in err
    assert "hunter2" not in err


def test_a_key_is_rotated_with_an_audit_row(loop: Command, settings: Settings) -> None:
    old = settings.secret("pseudonym")
    assert answered(loop, "key", "rotate", "pseudonym") == {"key": "pseudonym", "retired": 1}
    assert settings.ring("pseudonym")[1:] == (old,)
    assert settings.ring("pseudonym")[0] != old
    code, out, _ = loop("key", "rotate", "pseudonym")
    assert code == 0
    assert "secrets/pseudonym.d/2 of the home" in " ".join(out.split())
    for key in settings.ring("pseudonym"):
        assert key.hex() not in out
    with open_home(settings) as home:
        acts = home.state.arrow("audit").to_pylist()
    assert [(act["action"], json.loads(act["detail"])) for act in sorted(acts, key=lambda act: act["happened_at"])] == [
        ("pseudonym.rotate", {"retired": 1}),
        ("pseudonym.rotate", {"retired": 2}),
    ]


def test_other_keys_cannot_be_rotated() -> None:
    program = Path(sys.executable).with_name("loop")
    done = subprocess.run([program, "key", "rotate", "postgres"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pseudonym" in done.stderr
