"""The rows of a catalog that cannot be rendered: what a dry run says of them, and a table of all of them for people."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import merge
from pathlib import Path
from typing import Final

from batch_jobs.catalog.rows import RefusedRow
from batch_jobs.planning.plan import Plan
from batch_jobs.spreadsheet import safe_text
from orchestrion.errors import InvalidRequest
from orchestrion.rendering.suitability import named_model
from orchestrion.tracks.spec import TrackSpec

#: So many are said; the file has all of them.
SAID: Final = 5
#: The table's columns; a test holds docs/catalogs.md to them.
COLUMNS: Final = ("line", "row_id", "title", "requested_by", "model", "style", "message")


def bad_rows(plan: Plan, models: Sequence[str]) -> Iterator[RefusedRow]:
    """Rows that are no valid request, and rows of a model that is not loaded, in order of their lines.

    Args:
        plan: with the whole catalog.
        models: the public names of those that are loaded.
    """
    of_others = (_of_other_model(row, models) for row in plan.rows_of_other_models(models))
    return merge(plan.refused_rows(), of_others, key=lambda row: row.line)


def _of_other_model(row: tuple[int, str | None, str | None, str], models: Sequence[str]) -> RefusedRow:
    line, row_id, title, spec = row
    request = TrackSpec.model_validate_json(spec).resolve()
    message = ""
    try:
        named_model(request, dict.fromkeys(models, True))
    except InvalidRequest as error:
        # The words that the run itself would have for it.
        message = f"{error}; or load it with --model"
    asked = request.composition
    return RefusedRow(line, row_id, title, message, request.requester, asked.model, asked.style)


@dataclass(slots=True)
class BadRows:
    """What is to be said of them."""

    count: int = 0
    first: list[RefusedRow] = field(default_factory=list)

    def describe(self, file: Path | None) -> list[str]:
        """A line for each of the first ones, and where the others are."""
        lines = [_said(row) for row in self.first]
        if file is not None:
            lines.append(f"  all {self.count:,} of them are in {file}" if self.count else f"  {file} has none")
        elif self.count > len(self.first):
            lines.append(f"  and {self.count - len(self.first):,} more; --bad-rows FILE writes all of them as a table")
        return lines


def _said(row: RefusedRow) -> str:
    named = f", row_id {row.row_id}" if row.row_id else ""
    return f"  line {row.line}{named}: {' '.join(row.message.split())}"


def collect(rows: Iterable[RefusedRow], file: Path | None) -> BadRows:
    """Count the rows, keep the first of them, and write all of them as CSV, if there is a file to write.

    Raises:
        InvalidRequest: the file cannot be written.
    """
    found = BadRows()
    if file is None:
        for row in rows:
            _count(found, row)
        return found
    aside = file.with_name(f".{file.name}.part")
    try:
        # By the mark Excel sees that it is UTF-8.
        with aside.open("w", encoding="utf-8-sig", errors="backslashreplace", newline="") as out:
            table = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
            table.writerow(COLUMNS)
            for row in rows:
                _count(found, row)
                cells = (row.line, row.row_id, row.title, row.requester, row.model, row.style, row.message)
                table.writerow([safe_text("" if cell is None else str(cell)) for cell in cells])
        aside.replace(file)
    except OSError as error:
        raise InvalidRequest.of("bad_rows", str(file), f"cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            aside.unlink()
    return found


def _count(found: BadRows, row: RefusedRow) -> None:
    found.count += 1
    if len(found.first) < SAID:
        found.first.append(row)
