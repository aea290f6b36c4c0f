"""An erasure from beginning to end: in which order the stores are visited, and how it goes on after a kill.

Every stage may be done again: it removes what is left. So what is resumed begins at the beginning, with the plan of
before, and the report adds up. Sources go before what is made of them: the gateway, answers of an annotator, what has
landed, the tables of the lake, training sets, models, files, and last the databases, whose pages and log had all of it
pass through.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow.compute as pc
import sqlalchemy as sa

from loop.collect import erasing
from loop.cycle import versions
from loop.erase import answering, databases, files, rows
from loop.erase.matching import learned
from loop.erase.needles import Needles
from loop.erase.plan import Plan, Step, alone, drop, look, restored, save
from loop.erase.subject import Subject, check_reason
from loop.errors import LoopError
from loop.home import Home
from loop.release import taints
from loop.train import dataset

PATIENCE: Final = 120.0
"""Seconds for which a gateway that runs is waited for."""
NOT_REACHED: Final = (
    "outboxes of tools: what was erased and is sent again is a duplicate, what was never sent comes in as new",
    "backups, copies and snapshots of the home, its file system's free blocks, a database's WAL archive and replicas",
    "weights of models: versions that learned from erased rows are tagged, nothing is trained from them any more",
    "texts of other people that speak of this person, and texts that the organisation gave (corpus, benchmark)",
    "accounts and answers in Label Studio, files of answers: delete them there; read again, they are set aside",
    "what telemetry, a reverse proxy or an upstream model server were sent and keep",
)


@dataclass
class Report:
    """What an erasure found and did."""

    erasure_id: str | None
    """None of a dry run."""
    kind: str
    asked_at: datetime
    found: dict[str, int]
    """Rows by store that were there when it was asked for; of a dry run, what would go."""
    removed: dict[str, int] = field(default_factory=dict)
    tainted: list[dict[str, Any]] = field(default_factory=list)
    """Model versions that learned from what was erased now or before."""
    to_do: list[str] = field(default_factory=list)
    """What somebody else must do."""
    not_reached: tuple[str, ...] = NOT_REACHED
    seconds: float = 0.0
    resumed: bool = False
    before: datetime | None = None
    """When the same subject was erased last, if ever."""

    @property
    def nothing(self) -> bool:
        """Whether nobody of that id was ever here, as far as anything tells."""
        return not self.found and not self.removed and self.before is None


def erase(  # noqa: PLR0913 - by keyword
    home: Home,
    subject: Subject,
    *,
    reason: str,
    author: str,
    dry_run: bool = False,
    step: Step = lambda _: None,
) -> Report:
    """Erase a person or an interaction from every store of the home, or say what would be.

    What is received while it runs is not meant, and stays. Cut short, it goes on when it is asked for again.

    Raises:
        BadInputError: there is no reason, or it names the person.
        LoopError: another erasure is under way; something could not be reached; or something is left.
    """
    if dry_run:
        return _reach(home, subject, step)
    check_reason(subject, reason)
    with alone(home):
        return _Erasure(home, subject, reason, author, step).run()


def _reach(home: Home, subject: Subject, step: Step) -> Report:
    now = datetime.now(UTC)
    plan = look(home, subject, Plan(), now, step)
    report = Report(None, subject.kind, now, plan.counts, before=_finished(home, subject))
    models, own = home.state.tables["models"], dict(plan.bases)
    with home.state.engine.connect() as connection:
        made = connection.execute(sa.select(models.c.version, models.c.training_digest)).all()
    for path in dataset.sets(home.settings.training_sets):
        frozen = dataset.load(path.parent, path.name)
        lost = sum(pc.sum(learned(rows, plan)).as_py() or 0 for rows in (frozen.demonstrations, frozen.preferences))
        own |= {
            row.version: (lost, dataset.erased(path)[1]) for row in made if lost and row.training_digest == path.name
        }
    report.tainted = [{"version": v, "rows": n, "of": of, "share": n / of} for v, (n, of) in sorted(own.items())]
    return report


def _finished(home: Home, subject: Subject) -> datetime | None:
    """When the subject was last erased and something was found."""
    table = home.state.tables["erasures"]
    query = sa.select(table.c.finished_at, table.c.report).where(
        table.c.subject == subject.digest, table.c.finished_at.is_not(None)
    )
    with home.state.engine.connect() as connection:
        found = [row.finished_at for row in connection.execute(query) if json.loads(row.report)["removed"]]
    return max(found, default=None)


class _Erasure:
    """One erasure under way."""

    def __init__(self, home: Home, subject: Subject, reason: str, author: str, step: Step) -> None:
        self.home, self.subject, self.step = home, subject, step
        self.began = time.monotonic()
        self.removed: Counter[str] = Counter()
        table = home.state.tables["erasures"]
        query = sa.select(table).where(table.c.subject == subject.digest, table.c.finished_at.is_(None))
        with home.state.transaction(lock="erasures") as connection:
            begun = connection.execute(query.order_by(table.c.asked_at)).mappings().first()
            self.resumed = begun is not None
            row: dict[str, Any] = dict(begun or {})
            if not row:
                row = {
                    "erasure_id": uuid.uuid4().hex,
                    "kind": subject.kind.value,
                    "subject": subject.digest,
                    "reason": reason,
                    "author": author,
                    "asked_at": datetime.now(UTC),
                    "stage": "asked",
                    "report": None,
                }
                connection.execute(sa.insert(table).values(**row))
        told = json.loads(row["report"] or "{}")
        self.id, self.asked_at = str(row["erasure_id"]), row["asked_at"]
        self.removed.update(told.get("removed", {}))
        self.found: dict[str, int] = told.get("found", {})
        self.before = _finished(home, subject)
        self.plan = restored(home, self.id)
        self.to_do: list[str] = []

    def run(self) -> Report:
        self._look()
        self.found = self.found or dict(self.plan.counts)
        if self.found or self.resumed:
            self._stage("planned", Counter())
            self._stage("gateway", self._gateway())
            self._look()
            self._stage("rows", self._rows())
            self._stage("training sets", self._sets())
            self._models()
            self._stage("files", self._files())
            self._stage("databases", self._databases())
            self._verify()
            for store, count in self.found.items():  # what a stage removed that was cut short it did not say
                self.removed[store] = max(self.removed[store], count)
            self.removed["labels/partitions made anew"] = len(self.plan.relabelled)
        report = self._report()
        self._note("done", report)
        erasing.tidied(self.home.settings, self.id)
        drop(self.home, self.id)
        return report

    # -- stages -----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        look(self.home, self.subject, self.plan, self.asked_at, self.step)
        save(self.home, self.id, self.plan)

    def _gateway(self) -> Counter[str]:
        settings, named = self.home.settings, self.plan.named
        self.step("asking the gateway to forget")
        forgot = erasing.forgotten(
            settings, self.id, named, patience=PATIENCE, wait=lambda: self.step("waiting for the gateway")
        )
        save(self.home, self.id, self.plan)
        with self.home.state.transaction(lock="drain the spool"):
            spool = erasing.rewrite(settings, named)
        orphans = rows.barrier(self.home)
        return Counter(
            {
                "ledger/keys": forgot.keys,
                "ledger": forgot.suggestions,
                "spool": spool.frames,
                "spool/files that could not be read": spool.files,
                "landing/files of nobody": orphans,
            }
        )

    def _rows(self) -> Counter[str]:
        self.step("taking back what was said as an annotator")
        gone = answering.leave(self.home, self.plan, lambda: save(self.home, self.id, self.plan))
        gone += rows.erase(self.home, self.plan, self.step)
        for name in rows.MADE_OF.values():
            rows.scrub(self.home, name, self.step)
        answering.relabel(self.home, self.plan, self.step)
        gone += rows.derived(self.home, self.plan, self.step)
        save(self.home, self.id, self.plan)  # comparisons, by which answers are found
        return gone

    def _sets(self) -> Counter[str]:
        root = self.home.settings.training_sets
        dataset.clear(root)
        gone: Counter[str] = Counter()
        for path in dataset.sets(root):
            self.step(f"training set {path.name[:12]}")
            gone["training_sets"] += dataset.erase(path, lambda part: learned(part, self.plan))
        return gone

    def _models(self) -> None:
        self.step("tagging models")
        models, lost = self.home.state.tables["models"], dict(self.plan.bases)
        erased = {path.name: dataset.erased(path) for path in dataset.sets(self.home.settings.training_sets)}
        with self.home.state.engine.connect() as connection:
            for row in connection.execute(sa.select(models.c.version, models.c.training_digest)):
                if erased.get(row.training_digest, (0, 0))[0]:
                    lost[row.version] = erased[row.training_digest]
        versions.mark(self.home, lost, anew=bool(lost))

    def _files(self) -> Counter[str]:
        self.step("looking through files")
        answered = bool(taints.tainted(self.home.state)) or bool(self.plan.items)
        return files.clean(self.home, Needles(self.subject, self.plan), drop_caches=answered)

    def _databases(self) -> Counter[str]:
        done = databases.clean(self.home, self.subject, self.plan, self.step)
        self.to_do = done.to_do
        gone = {f"state/{name}": count for name, count in done.deleted.items()}
        return Counter(gone | {f"database/{name}": count for name, count in done.masked.items()})

    def _verify(self) -> None:
        """Look again. What is found now, and was there before it was asked for, is an error."""
        self.step("looking again")
        self.plan.verifying = True
        again = look(self.home, self.subject, self.plan, self.asked_at).counts
        left = [f"{count} in {store}" for store, count in again.items()]
        left += files.found(self.home, Needles(self.subject, self.plan))
        broken = [path.name for path in dataset.sets(self.home.settings.training_sets) if dataset.verify(path)]
        left += [f"training set {name} does not verify" for name in broken]
        if left:
            raise LoopError(
                f"erasure {self.id}: expected nothing to be left, found {'; '.join(left[:5])}; ask for it again, it "
                "goes on; if the same is left then, tell whoever keeps this home"
            )

    # -- the record -------------------------------------------------------------------------------------------------

    def _stage(self, name: str, gone: Counter[str]) -> None:
        self.removed += gone
        self._note(name, None)

    def _note(self, stage: str, report: Report | None) -> None:
        table = self.home.state.tables["erasures"]
        told: dict[str, Any] = {"found": self.found, "removed": +self.removed}
        values: dict[str, Any] = {"stage": stage}
        if report is not None:
            told = {k: v for k, v in asdict(report).items() if k not in {"not_reached", "before"}}
            values["finished_at"] = datetime.now(UTC)
        values["report"] = json.dumps(told, default=str)
        with self.home.state.transaction() as connection:
            connection.execute(sa.update(table).where(table.c.erasure_id == self.id).values(**values))

    def _report(self) -> Report:
        tainted = [asdict(taint) for _, taint in sorted(taints.tainted(self.home.state).items())]
        return Report(
            self.id,
            self.subject.kind,
            self.asked_at,
            self.found,
            dict(+self.removed),
            tainted if self.found else [],
            to_do=self.to_do,
            seconds=time.monotonic() - self.began,
            resumed=self.resumed,
            before=self.before,
        )
