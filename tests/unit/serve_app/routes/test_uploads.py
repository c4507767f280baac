"""Uploads: what is read, what is kept, and what is said of it."""

import gzip
import hashlib
import io

from tests.midi_files import TEMPO_120, midi, notes, time_signature
from tests.recordings import tune, wav

MELODY = midi(TEMPO_120 + time_signature(3, 2) + notes())


def upload(service, data, query="", **headers):
    return service.post(
        "/v1/themes" + query, content=data, headers={"Content-Type": "application/octet-stream"} | headers
    )


def test_an_upload_is_read_and_kept(service):
    answer = upload(service, MELODY)
    packed = upload(service, gzip.compress(MELODY), **{"Content-Encoding": "gzip"})

    assert answer.status_code == packed.status_code == 201
    reference = "sha256:" + hashlib.sha256(MELODY).hexdigest()
    read = {"kind": "MIDI", "duration_s": 4.0, "notes": 8, "key": "F major", "tempo_bpm": 120.0, "metre": "3/4"}
    assert answer.json() == packed.json() == {"theme": reference} | read | {"key": answer.json()["key"]}
    assert answer.json()["key"] in ("C major", "D minor", "F major")
    assert service.ingress.store.theme(reference) == MELODY
    assert upload(service, io.BytesIO(bytes(20 * 2**20 + 1)).getvalue()).status_code == 413
    assert upload(service, MELODY, **{"Content-Encoding": "br"}).headers["accept-encoding"] == "gzip, identity"


def test_a_file_is_refused_for_the_use_that_it_cannot_have(service):
    note = wav(tune(pitches=(60,), note_s=2.0))

    as_theme, to_go_on_from = upload(service, note), upload(service, note, "?use=continuation")
    score = upload(service, MELODY, "?use=continuation")

    assert (as_theme.status_code, to_go_on_from.status_code, score.status_code) == (422, 201, 422)
    assert as_theme.json()["problems"][0]["field"] == "theme"
    assert "no melody was found" in as_theme.json()["problems"][0]["message"]
    assert to_go_on_from.json() | {"theme": ""} == {
        "theme": "", "kind": "WAV", "duration_s": 2.0, "notes": None, "key": None, "tempo_bpm": None, "metre": None
    }  # fmt: skip
    assert score.json()["problems"][0]["field"] == "continuation"
    assert service.ingress.store.has_blob(service.ingress.store.key_of(note, "theme"))
    assert upload(service, MELODY, "?use=melody").json()["problems"][0]["field"] == "use"


def test_a_reference_that_is_not_here_is_refused_without_a_word_of_where_things_are(service):
    answer = service.post("/v1/tracks", json={"prompt": "calm", "theme": "sha256:" + "0" * 64})

    assert answer.status_code == 404
    assert answer.json()["detail"] == f"the upload sha256:{'0' * 64} is not here, or no longer; upload it first"
