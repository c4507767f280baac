"""Uploads: what is checked, and what is kept."""

import gzip
import hashlib
import io

import numpy as np

from orchestrion.audio.encode import encode
from orchestrion.tracks.request import AudioFormat


def upload(service, data, **headers):
    return service.post("/v1/themes", content=data, headers={"Content-Type": "application/octet-stream"} | headers)


def test_an_upload_is_checked_and_kept(service):
    melody = encode(np.full((8000, 1), 0.1, np.float32), 8000, AudioFormat.FLAC)

    answer = upload(service, melody)
    packed = upload(service, gzip.compress(melody), **{"Content-Encoding": "gzip"})

    assert answer.status_code == packed.status_code == 201
    assert answer.json() == packed.json() == {"theme": "sha256:" + hashlib.sha256(melody).hexdigest()}
    assert service.ingress.store.theme(answer.json()["theme"]) == melody
    assert upload(service, b"no music").status_code == 422
    assert upload(service, io.BytesIO(bytes(20 * 2**20 + 1)).getvalue()).status_code == 413
    assert upload(service, melody, **{"Content-Encoding": "br"}).headers["accept-encoding"] == "gzip, identity"
