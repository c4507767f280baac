"""Answers with what is stored or known: validators, conditions, parts, links, and the licence of the weights."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from fastapi import Request, Response
from starlette.responses import JSONResponse

from orchestrion.audio.encode import FILE_SUFFIXES, MEDIA_TYPES
from orchestrion.tracks.intent.intent import Intent
from orchestrion.tracks.record import CALLER_FIELDS, TrackRecord
from orchestrion.tracks.request import AudioFormat, TrackRequest
from serve_app.delivery.pace import Pace
from serve_app.delivery.reader_progress import ReaderPacedResponse
from serve_app.http.conditions import Validators, has_current_copy, range_still_fits
from serve_app.http.headers import joined_headers
from serve_app.http.negotiation import parse_range
from serve_app.middleware import AS_HEAD

#: What is stored under an id never changes but may be withdrawn: caches may keep it, and ask before each use.
REVALIDATE: Final = "public, no-cache"
#: Headers of what is true only now.
NEVER_KEPT: Final = {"Cache-Control": "no-store"}
#: Of a record, where things lie: not told outside. And what stands beside it.
HIDDEN_FIELDS: Final = frozenset({"audio_key", "midi_key", "node_id", "intent"})
_SPDX: Final = re.compile(r"[A-Za-z0-9.+-]{1,64}")


def whole_answer(
    request: Request,
    body: bytes,
    media_type: str,
    headers: Mapping[str, str] | None = None,
    last_modified: datetime | None = None,
) -> Response:
    """A representation that is at hand as a whole; 304 for a client that has it.

    Args:
        request: whose conditions count.
        body: all of it; its hash is the ETag.
        media_type: of the body.
        headers: added to the answer.
        last_modified: when this became what it is, where that is known.

    Raises:
        HttpProblem: the client wants another version (412).
    """
    validators = Validators(quoted(hashlib.sha256(body).hexdigest()), last_modified)
    headers = {"Cache-Control": REVALIDATE, **(headers or {}), **validators.headers()}
    return unchanged(request, validators, headers) or Response(body, 200, headers, media_type)


def unchanged(request: Request, validators: Validators, headers: Mapping[str, str]) -> Response | None:
    """The answer, 304, for a client that has what would be sent; None for any other.

    Raises:
        HttpProblem: the client wants another version (412).
    """
    if not has_current_copy(joined_headers(request.headers.raw), validators):
        return None
    return Response(status_code=304, headers=headers)


def json_answer(request: Request, value: object, last_modified: datetime | None = None) -> Response:
    """The same for a JSON value."""
    return whole_answer(request, bytes(JSONResponse(value).body), "application/json", last_modified=last_modified)


def file_answer(
    request: Request,
    record: TrackRecord,
    headers: dict[str, str],
    blocks: Callable[[int, int], AsyncIterator[bytes]],
    pace: Pace,
) -> Response:
    """The audio file of a record, or the part of it that a GET asks for.

    Args:
        request: a GET has conditions, a HEAD no parts; after a POST the file is sent whole.
        record: whose file.
        headers: added to the answer.
        blocks: gives bytes [start, end).
        pace: at which they go where it is not reported how far they were read.

    Raises:
        HttpProblem: the client wants another version (412), or a part beyond the end (416).
    """
    format = AudioFormat(record.format)
    validators = Validators(quoted(record.audio_sha256), datetime.fromisoformat(record.created_at))
    headers = headers | validators.headers() | licence_links(record.weights_licence)
    headers |= {"Accept-Ranges": "bytes", "Content-Disposition": file_name(record, FILE_SUFFIXES[format])}
    given = joined_headers(request.headers.raw)
    start, end, status = 0, record.audio_bytes, 200
    is_head = request.scope.get(AS_HEAD, False)
    if request.method == "GET" and (answer := unchanged(request, validators, headers)) is not None:
        return answer
    if request.method == "GET" and not is_head and range_still_fits(given.get("if-range"), validators):
        part = parse_range(given.get("range"), record.audio_bytes)
        if part is not None:
            (start, end), status = part, 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{record.audio_bytes}"
    headers["Content-Length"] = str(end - start)
    if is_head:
        return Response(None, status, headers, MEDIA_TYPES[format])
    return ReaderPacedResponse(blocks(start, end), status, headers, MEDIA_TYPES[format], pace)


def licence_links(licence: str) -> dict[str, str]:
    """`Link: <…>; rel="license"` (RFC 4946, RFC 8288) for each SPDX name that the licence of the weights consists of.

    Of the weights, since it decides what may be done with what they make; a licence without an SPDX name has no link.
    """
    names = [name for name in licence.split(" AND ") if _SPDX.fullmatch(name) and name != "unknown"]
    if not names:
        return {}
    return {"Link": ", ".join(f'<https://spdx.org/licenses/{name}.html>; rel="license"' for name in names)}


def address_of(request: Request, track_id: str) -> str:
    """Where a track is found, below whatever prefix Serve has mounted this application at."""
    return f"{request.scope.get('root_path', '').rstrip('/')}/v1/tracks/{track_id}"


def track_summary(
    request: Request,
    record: TrackRecord,
    version: int,
    cache: str,
    asked: TrackRequest | None = None,
    intent: Intent | None = None,
) -> dict[str, Any]:
    """What is told of a track: its record without places inside the store, and where everything of it is found.

    The same request is the same track, whoever sends it: who had it made first, and what for, is told only to a caller
    that `asked` under the same name and for the same purpose. `intent` is what was understood of that caller's words;
    without it, what was of the first one's.
    """
    address = address_of(request, record.track_id)
    links = {"self": address, "audio": f"{address}/audio", "provenance": f"{address}/provenance"}
    if record.midi_key is not None:
        links["midi"] = f"{address}/midi"
    same_caller = asked is not None and record.is_of(asked.requester, asked.purpose)
    hidden = HIDDEN_FIELDS if same_caller else HIDDEN_FIELDS | CALLER_FIELDS
    fields = {name: value for name, value in asdict(record).items() if name not in hidden}
    understood = intent.values() if intent is not None else json.loads(record.intent or "null")
    told = {"id": record.track_id, "cache": cache, "version": version, "links": links, "intent": understood}
    return told | {"record": fields}


def file_name(record: TrackRecord, suffix: str) -> str:
    """A Content-Disposition that says what the track is and shows in the browser all the same."""
    words = re.findall(r"[a-z0-9]+", record.prompt.lower(), re.ASCII)[:6]
    return f'inline; filename="{"-".join([*words, record.track_id[4:12]])}{suffix}"'


def quoted(sha256: str) -> str:
    """A hash as a strong ETag."""
    return f'"{sha256}"'
