"""Which tracks came from what: `python -m batch_jobs.lineage --ledger out/catalog --model-revision 4f1c…`.

Answers from Parquet alone which tracks a model revision, a prompt, a theme or continuation, a requester or a job led
to; `--format ids` prints what `orchestrion takedown --from -` reads. A requester's tracks are those that were made for
them and those that they were given out of the store: they have both.

Exit codes: 0 tracks were found · 1 none were · 2 the arguments or the ledger cannot be used, or no track has that
model revision · 141 whoever reads the output has enough (`| head`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import reduce
from operator import and_
from typing import Any, Final, TextIO

import pyarrow.compute as pc
import pyarrow.dataset as ds
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from batch_jobs.ledger.dataset import ledger_dataset
from orchestrion.cli.arguments import add_storage_options
from orchestrion.cli.reader_gone import ending_quietly
from orchestrion.errors import InvalidRequest, OrchestrionError
from orchestrion.storage.selection import check_hashes, prompt_sha256, revision_forms, revisions_meant
from orchestrion.tracks.record import utc_timestamp

EXIT_FOUND: Final = 0
EXIT_NOTHING: Final = 1
EXIT_UNUSABLE: Final = 2

#: What is told of each delivery of a track.
COLUMNS: Final = (
    "track_id", "job_id", "line", "row_id", "title", "settled_at", "requested_by", "requester", "cache_hit", "prompt",
    "prompt_sha256", "theme", "continuation", "seed", "model", "model_revision", "recipe_version", "audio_key",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Origin:
    """Where tracks came from: conditions that must all hold, at least one of them.

    Raises:
        InvalidRequest: there is no condition, or one cannot be met by any track.
    """

    #: With or without its "sha256:".
    model_revision: str | None = None
    #: SHA-256 of the prompt, hex; see `prompt_sha256`.
    prompt_sha256: str | None = None
    #: Theme or continuation: "sha256:" and the hash of its file.
    reference: str | None = None
    #: Had the track made, or was handed it.
    requester: str | None = None
    job_id: str | None = None
    track_id: str | None = None
    #: First and last UTC day on which the track was delivered.
    since: date | None = None
    until: date | None = None

    def __post_init__(self) -> None:
        if all(getattr(self, name) is None for name in self.__slots__):
            raise InvalidRequest.of(
                "conditions", "none", "name what the tracks came from, for example --model-revision, --prompt or --job"
            )
        check_hashes(self.prompt_sha256, self.reference)
        if self.since and self.until and self.since > self.until:
            raise InvalidRequest.of("until", self.until.isoformat(), f"is before --since {self.since.isoformat()}")

    def filter(self) -> ds.Expression:
        """The conditions as pyarrow pushes them into a scan: days and jobs skip files, the others row groups."""
        conditions = [
            ds.field(name) == value
            for name in ("prompt_sha256", "job_id", "track_id")
            if (value := getattr(self, name)) is not None
        ]
        if self.model_revision is not None:
            conditions.append(ds.field("model_revision").isin(list(revision_forms(self.model_revision))))
        if self.reference is not None:
            conditions.append((ds.field("theme") == self.reference) | (ds.field("continuation") == self.reference))
        if self.requester is not None:
            conditions.append((ds.field("requested_by") == self.requester) | (ds.field("requester") == self.requester))
        if self.since is not None:
            conditions.append(ds.field("day") >= self.since)
        if self.until is not None:
            conditions.append(ds.field("day") <= self.until)
        return reduce(and_, conditions)


def deliveries(
    ledger_url: str,
    origin: Origin,
    storage_options: Mapping[str, Any] | None = None,
    columns: Sequence[str] = COLUMNS,
) -> Iterator[dict[str, Any]]:
    """The deliveries of tracks that came from `origin`, in no order; a track comes once for each row it was made for.

    Raises:
        NotFound: there is no ledger at `ledger_url`.
        StoreUnavailable: the bucket does not answer.
    """
    tracks = ledger_dataset(ledger_url, storage_options or {}, "tracks")
    for batch in tracks.scanner(columns=list(columns), filter=origin.filter()).to_batches():
        yield from batch.to_pylist()


def _revisions(ledger_url: str, storage_options: Mapping[str, Any]) -> set[str]:
    """The model revisions that any track of a ledger has."""
    found: set[str] = set()
    for batch in ledger_dataset(ledger_url, storage_options, "tracks").scanner(["model_revision"]).to_batches():
        found.update(pc.unique(batch["model_revision"]).to_pylist())
    return found


def _print_ids(found: Iterator[dict[str, Any]], out: TextIO) -> int:
    track_ids = {row["track_id"] for row in found}
    out.writelines(f"{track_id}\n" for track_id in sorted(track_ids))
    return len(track_ids)


def _print_jsonl(found: Iterator[dict[str, Any]], out: TextIO) -> int:
    count = 0
    for row in found:
        out.write(json.dumps(row, default=utc_timestamp) + "\n")
        count += 1
    return count


def _print_table(found: Iterator[dict[str, Any]], out: TextIO) -> int:
    rows = sorted(found, key=lambda row: (row["settled_at"], row["job_id"], row["line"]))
    table = Table(box=box.SIMPLE, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("track", no_wrap=True, min_width=36)
    for heading in ("day", "for", "model", "title or prompt"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(
            row["track_id"],
            row["settled_at"].date().isoformat(),
            _on_terminal(row["requested_by"]),
            _on_terminal(row["model"]),
            _on_terminal(row["title"] or row["prompt"]),
        )
    if rows:
        _Console(file=out).print(table)
    return len(rows)


class _Console(Console):
    """A console that leaves a broken pipe to who prints."""

    def on_broken_pipe(self) -> None:
        raise


def _on_terminal(text: str) -> Text:
    """Text of a catalog: no markup, and no control characters for the terminal to obey."""
    return Text("".join(character if character.isprintable() else "�" for character in text))


_PRINT: Final = {"table": _print_table, "jsonl": _print_jsonl, "ids": _print_ids}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring for the exit codes."""
    arguments = _parser().parse_args(argv)
    try:
        origin = Origin(
            model_revision=arguments.model_revision,
            prompt_sha256=arguments.prompt_sha256 if arguments.prompt is None else prompt_sha256(arguments.prompt),
            reference=arguments.reference,
            requester=arguments.requester,
            job_id=arguments.job,
            track_id=arguments.track_id,
            since=arguments.since,
            until=arguments.until,
        )
        columns = ("track_id",) if arguments.format == "ids" else COLUMNS
        found = deliveries(arguments.ledger, origin, arguments.storage_options, columns)
        count = _PRINT[arguments.format](found, sys.stdout)
        sys.stdout.flush()
        if count == 0 and origin.model_revision is not None:
            revisions_meant(origin.model_revision, _revisions(arguments.ledger, arguments.storage_options))
    except OrchestrionError as error:
        sys.stderr.write(f"lineage: {error}\n")
        return EXIT_UNUSABLE
    what = "tracks" if arguments.format == "ids" else "deliveries of tracks"
    sys.stderr.write(f"lineage: {count:,} {what} found\n")
    return EXIT_FOUND if count else EXIT_NOTHING


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m batch_jobs.lineage",
        description="Find the tracks that came from something. All conditions must hold; give at least one.",
        epilog="Exit codes: 0 found, 1 nothing found, 2 unusable arguments or ledger, or no track has that revision.",
    )
    parser.add_argument("--ledger", required=True, help="the --out of render_catalog; a folder or fsspec URL")
    parser.add_argument("--model-revision", metavar="R", help="as records have it, with or without sha256:")
    prompt = parser.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", metavar="TEXT", help="the whole prompt")
    prompt.add_argument("--prompt-sha256", metavar="H", help="the hash of the prompt, for those who may not read it")
    parser.add_argument("--reference", metavar="sha256:…", help="theme or continuation")
    parser.add_argument("--requester", metavar="NAME", help="had the track made, or was handed it from the store")
    parser.add_argument("--job", metavar="ID")
    parser.add_argument("--track-id", metavar="ID")
    parser.add_argument("--since", type=date.fromisoformat, metavar="DAY", help="first UTC day, e.g. 2026-11-01")
    parser.add_argument("--until", type=date.fromisoformat, metavar="DAY", help="last UTC day, included")
    parser.add_argument(
        "--format", choices=tuple(_PRINT), default="table", help="ids: one track id a line (default: %(default)s)"
    )
    add_storage_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(ending_quietly(main))
