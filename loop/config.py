"""Settings and the layout of a home. Read once from `loop.toml` and `LOOP_*` variables, then passed along.

Where things lie below the home is said here and nowhere else. Nothing here starts, opens or connects to anything.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from loop import keyring
from loop.errors import BadInputError


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
    signals: bool = True
    """Whether labels weigh what `signals` says of their decisions; otherwise every decision counts alike."""
    held_out_share: float = Field(default=0.15, ge=0.0, le=0.5)
    """Share of writers, and of tasks, that is kept out of training for evaluation."""
    benchmark_items: int = Field(default=200, ge=1)
    """Held-out prompts a workflow on which challenger and champion meet."""
    new_preferences: int = Field(default=200, ge=1)
    """New preferences that make the sensor start a cycle."""

    privacy: Literal["patterns", "full", "off"] = "patterns"
    """What looks for personal data, which is masked before anything is kept. patterns: our patterns and checksums, fast
    (e-mail, telephone, card, IBAN, IP, URL, identity numbers). full: Presidio's recognisers as well, and names where a
    spaCy model is installed; slow, and not in the gateway. off: nothing is masked."""

    retention_days: dict[str, Annotated[int, Field(ge=1)]] = {}
    """Days for which a table of the lake, or `training_sets`, keeps rows: by day of the partition, or of the cycle. A
    table that is not named keeps them for ever. In a variable: JSON, as `{"quarantine": 90}`; `loop retain` drops."""

    # -- people who label -------------------------------------------------------------------------------------------

    acquisition: Literal["random", "mixed", "disagreement", "conflict", "novelty", "risk", "slice"] = "random"
    """How label tasks are chosen among a day's questions: all at random, or for reasons; see docs/selecting.md. Random
    until a benchmark shows it beaten."""
    label_budget: int = Field(default=50, ge=0)
    """Most label tasks of a day and workflow that are made of its decisions."""
    label_exploration: float = Field(default=0.3, gt=0.0, le=1.0)
    """Share of them that is drawn at random whatever the acquisition: without it no estimate would be unbiased."""
    label_answers: int = Field(default=2, ge=1)
    """Answers that each of them wants, from as many people."""

    pay_floor_per_hour: float | None = Field(default=None, ge=0.0)
    """Least that an hour of labelling is paid; nobody joins for less. Unset, the page says that there is no floor."""
    pay_currency: str = Field(default="USD", min_length=1, max_length=10)
    """What pay is in."""
    gold_share: float = Field(default=0.1, ge=0.0, le=0.5)
    """Share of the tasks that a person gets whose answer is known, hidden among the rest."""
    break_after_minutes: int = Field(default=50, ge=1)
    """Minutes of labelling without a pause after which the page asks for one."""
    break_minutes: int = Field(default=5, ge=0)
    """How long it is; 0: no breaks are asked for."""

    # -- synthetic rows ---------------------------------------------------------------------------------------------

    synthetic_share: float = Field(default=0.1, ge=0.0, lt=0.5)
    """Greatest share of a training set's demonstrations that is synthetic; 0: none, whatever was made."""
    synthesis_thin: int = Field(default=50, ge=1)
    """Real demonstrations below which a slice of a workflow counts as thin."""
    synthesis_url: str | None = None
    """An OpenAI-compatible server that writes them instead of the champion, as `http://host/v1`; its key, if it wants
    one, is read from `LOOP_SECRET_SYNTHESIS`."""
    synthesis_model: str | None = None
    """Model to ask of that server; unset, the name of the workflow."""

    # -- what labels cost -------------------------------------------------------------------------------------------

    decision_cost: float = Field(default=0.02, ge=0.0)
    """What a decision at work costs as a label, in `pay_currency`: its collection and a moment of somebody's time."""
    answer_cost: float = Field(default=0.10, ge=0.0)
    """What an answer costs of somebody of whom neither pay nor time is known, in `pay_currency`."""

    # -- the gateway ------------------------------------------------------------------------------------------------

    gateway_host: str = "127.0.0.1"
    """Address on which the gateway's front listens. Anything but loopback needs TLS, here or in a proxy before it."""
    gateway_port: int = Field(default=0, ge=0, le=65535)
    """Its port; 0: a free one, chosen once and remembered for the home."""
    tls_certificate: Path | None = None
    """PEM file with the front's certificate and its chain; unset, it speaks plain HTTP."""
    tls_key: Path | None = None
    """PEM file with the certificate's private key."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins of web pages that may call the front from a browser, as `https://ads.example`; none by default. In a
    variable: a comma between them."""
    upstream_url: str | None = None
    """An OpenAI-compatible server that generates instead of the champion, as `http://host/v1`; its key, if it wants
    one, is read from `LOOP_SECRET_UPSTREAM`."""
    upstream_model: str | None = None
    """Model to ask of that server; unset, the name of the workflow."""
    upstream_true_logprobs: bool = False
    """Whether that server samples from just what its log-probabilities say: without top-k, penalties, or defaults of
    the model's own. Only then are they kept, of requests with temperature 1 and top_p 1."""
    exploration: float = Field(default=0.0, ge=0.0, lt=0.5)
    """Share of requests for suggestions that the champion before this one serves."""
    shuffle: bool = True
    """Whether candidates are shown in random order; otherwise by falling log-probability."""
    ignore_after_hours: float = Field(default=24.0, gt=0.0)
    """Hours without feedback after which a suggestion counts as ignored."""
    spool_bytes: int = Field(default=1 << 30, ge=1)
    """Bytes that may wait in the spool to be moved to the lake; beyond it clients are told to come back (429)."""
    spool_segment_bytes: int = Field(default=16 << 20, ge=1)
    """Bytes after which a segment of the spool is sealed, so that it can be moved."""
    spool_segment_seconds: float = Field(default=5.0, gt=0.0)
    """Age at which it is sealed in any case."""

    # -- Label Studio -----------------------------------------------------------------------------------------------

    studio_url: str | None = None
    """A Label Studio of the organisation's own, as `https://studio.example`; the access token is read from
    `LOOP_SECRET_STUDIO`. Unset, the one that `loop studio up` runs is meant."""
    studio_env: Path | None = None
    """Folder of the environment that Label Studio is installed in (1 GB), as for several homes to share; by default
    `studio/env` of the home."""
    studio_poll_seconds: float = Field(default=30.0, ge=1.0)
    """Seconds after which `loop studio up` asks for answers though nobody said that there are any."""

    @field_validator("home", "tls_certificate", "tls_key", "studio_env", mode="after")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser().absolute()

    @field_validator("retention_days", mode="after")
    @classmethod
    def _tables(cls, days: dict[str, int]) -> dict[str, int]:
        from loop import schema  # with it comes Arrow, which not everybody who reads settings needs

        known = (*schema.LAKE, "training_sets")
        for name in days:
            if name not in known:
                raise ValueError(f"expected tables among {', '.join(known)}, not {name!r}")
        return days

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split(cls, origins: Any) -> Any:
        return tuple(o.strip() for o in origins.split(",") if o.strip()) if isinstance(origins, str) else origins

    @field_validator("cors_origins", mode="after")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            url = urlsplit(origin)
            if url.scheme not in ("http", "https") or not url.netloc or url.path or url.query or url.fragment:
                raise ValueError(f"expected origins as https://host or https://host:port, not {origin!r}")
        return origins

    @field_validator("upstream_url", "synthesis_url", "studio_url", mode="after")
    @classmethod
    def _server(cls, given: str | None, info: ValidationInfo) -> str | None:
        if given is not None:
            url = urlsplit(given)
            if url.scheme not in ("http", "https") or not url.netloc or "@" in url.netloc or url.query or url.fragment:
                variable = f"LOOP_SECRET_{str(info.field_name).removesuffix('_url').upper()}"
                raise ValueError(f"expected a URL as http://host/v1, without a password (see {variable})")
        return given and given.rstrip("/")

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together: set both or neither")
        return self

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
    def data_docs(self) -> Path:
        """Pages of the last verdicts on batches."""
        return self.home / "data_docs"

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
    def gateway(self) -> Path:
        """What the gateway keeps: its spool, its ledger, the snapshot of its tokens."""
        return self.home / "gateway"

    @property
    def spool(self) -> Path:
        """What was acknowledged and waits to be moved to the lake, as segment files."""
        return self.gateway / "spool"

    @property
    def ledger(self) -> Path:
        """Which client keys were seen and which suggestions were served: made from the spool and what was before it."""
        return self.gateway / "ledger"

    @property
    def studio(self) -> Path:
        """What is kept for Label Studio: its environment, its data, how far its answers were pulled."""
        return self.home / "studio"

    @property
    def truth(self) -> Path:
        """What the simulation knows and the loop may not."""
        return self.home / "truth"

    def as_environment(self) -> dict[str, str]:
        """The LOOP_* variables with which another process gets these settings wherever it runs; may hold a password."""
        given = {name: getattr(self, name) for name in sorted({"home", *self.model_fields_set})}
        return {
            f"LOOP_{name.upper()}": _as_text(value)
            for name, value in given.items()
            if value not in (None, ())  # an empty variable is no variable
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
        """The home's secret of that name: see `keyring.secret`."""
        return keyring.given(name) or keyring.secret(self.make_home() / "secrets", name)

    def ring(self, name: str) -> tuple[bytes, ...]:
        """The secret of that name and those that it replaced, the newest first: see `keyring.ring`."""
        self.secret(name)  # made, with the home, where there is none
        return keyring.ring(self.home / "secrets", name)

    def rotate(self, name: str) -> int:
        """Replace the secret by a new one: see `keyring.rotate`."""
        if keyring.given(name) is None:
            self.make_home()
        return keyring.rotate(self.home / "secrets", name)

    def secret_text(self, name: str) -> str | None:
        """A secret that somebody else made, as the key of an upstream: what `LOOP_SECRET_<NAME>` holds, as it stands.

        None where the variable is not set: nothing is made up for it, and nothing is written to a file.
        """
        return os.environ.get(f"LOOP_SECRET_{name.upper()}") or None


_KEPT_SECRET: Final = ("postgres_url", "upstream_url", "studio_url", "synthesis_url")
"""Settings whose wrong value an error does not repeat, for a password may stand in it."""


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
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInputError(f"loop.toml: expected TOML in UTF-8, got {error}") from None
    except OSError as error:
        raise BadInputError(f"loop.toml: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            raise BadInputError(f"unknown setting {key!r}{_nearest(key, set(Settings.model_fields))}") from None
        if not key:  # two settings that do not go together
            raise BadInputError(f"settings: {problem['msg']}") from None
        got = "a value that is kept secret" if key in _KEPT_SECRET else repr(problem["input"])
        raise BadInputError(f"setting {key}: {problem['msg']}, got {got}") from None


def _nearest(key: str, known: set[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(known))}"


def _as_text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict):
        return json.dumps(value)
    return ",".join(value) if isinstance(value, tuple) else str(value)
