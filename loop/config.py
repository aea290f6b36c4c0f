"""Settings and the layout of a home. Read once from `loop.toml` and `LOOP_*` variables, then passed along.

Where things lie below the home is said here and nowhere else. Nothing here starts, opens or connects to anything.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import secrets
import stat
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from loop.errors import BadInputError, LoopError


class Settings(BaseSettings):
    """What can be set. `LOOP_WINDOW_DAYS=14` and `window_days = 14` in loop.toml say the same; the variable wins."""

    model_config = SettingsConfigDict(env_prefix="LOOP_", env_ignore_empty=True, extra="forbid", frozen=True)

    home: Path = Path(".loop")
    """Everything the loop writes lies below it."""
    postgres_url: SecretStr | None = None
    """`postgresql://user:password@host/database`; unset, an embedded server runs under the home."""
    base_model: str = "nano"
    """`nano` (made on this machine), a local path or a hub name."""
    seed: int = Field(default=0, ge=0)
    """Of every random choice outside the simulation's own."""
    window_days: int = Field(default=28, ge=1, le=366)
    """Days before a cycle from which it may still learn: what keeps day 365 as cheap as day 1."""
    replay_share: float = Field(default=0.5, ge=0.0, lt=1.0)
    """Share of a training set that is drawn from before the last cycle."""
    training_rows: int = Field(default=20_000, ge=1)
    """Most demonstrations, and most preferences, in one training set."""
    base_steps: int = Field(default=600, ge=1)
    """Most pretraining steps of a nano base, of 32 pairs each."""
    base_tokens: int = Field(default=900_000, ge=1)
    """Most tokens that a nano base is pretrained on: about a minute's worth."""
    sft_steps: int = Field(default=60, ge=0)
    dpo_steps: int = Field(default=30, ge=0)
    held_out_share: float = Field(default=0.15, ge=0.0, le=0.5)
    """Share of writers, and of tasks, that is kept out of training for evaluation."""
    benchmark_items: int = Field(default=200, ge=1)
    """Held-out prompts a workflow on which challenger and champion meet."""
    new_preferences: int = Field(default=200, ge=1)
    """New preferences that make the sensor start a cycle."""

    @field_validator("home", mode="after")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's own signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, Path("loop.toml"))

    # -- the layout of a home ---------------------------------------------------------------------------------------

    @property
    def lake(self) -> Path:
        """Delta tables."""
        return self.home / "lake"

    @property
    def landing(self) -> Path:
        """Files as they came in, typed."""
        return self.home / "landing"

    @property
    def corpus(self) -> Path:
        """Texts on which a nano base is pretrained, if the organisation gave any."""
        return self.home / "corpus"

    @property
    def training_sets(self) -> Path:
        """Frozen data sets, by digest."""
        return self.home / "training_sets"

    @property
    def models(self) -> Path:
        """Model versions: safetensors, tokenizer, manifest."""
        return self.home / "models"

    @property
    def cache(self) -> Path:
        """Answers of a model version to benchmark prompts, and the like; may be deleted."""
        return self.home / "cache"

    @property
    def dagster_home(self) -> Path:
        return self.home / "dagster"

    @property
    def services(self) -> Path:
        """Data and logs of the services that run for this home."""
        return self.home / "services"

    @property
    def truth(self) -> Path:
        """What the simulation knows and the loop may not."""
        return self.home / "truth"

    def as_environment(self) -> dict[str, str]:
        """The LOOP_* variables with which another process gets these settings wherever it runs; may hold a password."""
        given = {name: getattr(self, name) for name in sorted({"home", *self.model_fields_set})}
        return {
            f"LOOP_{name.upper()}": value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            for name, value in given.items()
            if value is not None
        }

    def make_home(self) -> Path:
        """The home, made for its owner alone if it is missing; the permissions of one that is there are left alone.

        Raises:
            BadInputError: it cannot be made there.
        """
        if not self.home.is_dir():
            try:
                self.home.parent.mkdir(parents=True, exist_ok=True)
                self.home.mkdir(mode=0o700, exist_ok=True)
            except OSError as error:
                raise BadInputError(f"LOOP_HOME {self.home} cannot be made: {error.strerror}; set another") from None
        return self.home

    def secret(self, name: str) -> bytes:
        """The home's secret of that name: 32 random bytes, in a file of mode 600 made on first use.

        `LOOP_SECRET_<NAME>` (hexadecimal, at least 16 bytes) is used instead where it is set. Everybody who asks at
        once gets the same, for the file appears whole.

        Raises:
            BadInputError: the variable or the file does not hold hexadecimal digits.
            LoopError: others than the owner may read the file.
        """
        variable = f"LOOP_SECRET_{name.upper()}"
        if given := os.environ.get(variable):
            return _secret_bytes(given, variable)
        path = self.make_home() / "secrets" / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if not path.exists():
            handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{name}-")  # of mode 600
            try:
                with os.fdopen(handle, "w") as file:
                    file.write(secrets.token_hex(32))
                    file.flush()
                    os.fsync(file.fileno())
                with contextlib.suppress(FileExistsError):  # somebody else was first
                    os.link(fresh, path)
            finally:
                Path(fresh).unlink()
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise LoopError(f"{path}: expected mode 600, got {mode:o}; if nobody else has read it, chmod 600 it")
        return _secret_bytes(path.read_text(), str(path))


def load(**given: Any) -> Settings:
    """Settings from loop.toml and the environment; `given` wins over both.

    Raises:
        BadInputError: a key or value is wrong; the message names it and the nearest right key.
    """
    known = {f"LOOP_{name.upper()}" for name in Settings.model_fields}
    for variable in os.environ:
        if variable.startswith("LOOP_") and not variable.startswith("LOOP_SECRET_") and variable not in known:
            raise BadInputError(f"unknown setting {variable} in the environment{_nearest(variable, known)}")
    try:
        return Settings(**given)
    except tomllib.TOMLDecodeError as error:
        raise BadInputError(f"loop.toml: expected TOML, got {error}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            raise BadInputError(f"unknown setting {key!r}{_nearest(key, set(Settings.model_fields))}") from None
        got = "a value that is kept secret" if key == "postgres_url" else repr(problem["input"])
        raise BadInputError(f"setting {key}: {problem['msg']}, got {got}") from None


def _nearest(key: str, known: set[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(known))}"


def _secret_bytes(text: str, where: str) -> bytes:
    try:
        given = bytes.fromhex(text.strip())
    except ValueError:
        given = b""
    if len(given) < 16:
        raise BadInputError(f"{where}: expected at least 32 hexadecimal digits (16 bytes), got something else")
    return given
