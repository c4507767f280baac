"""The promise that the structure exists for: one request, two doors, the same track to the last byte."""

import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from orchestrion.errors import VerificationFailed
from orchestrion.storage.track_store import TrackStore
from orchestrion.trust.signature import load_trusted_keys
from orchestrion.trust.signed_record import SignedRecord, verify

REQUEST = {"prompt": "bossa nova for a quiet café, 132 bpm, in F major", "duration_s": 4.5, "seed": 23, "format": "ogg"}


def test_http_and_a_catalog_give_the_same_id_and_the_same_bytes(client, service, tmp_path):
    over_http = client.post("/v1/tracks", json=REQUEST).raise_for_status().json()
    catalog = tmp_path / "catalog.csv"
    with catalog.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, REQUEST)
        writer.writeheader()
        writer.writerow(REQUEST)
    command = [sys.executable, "-m", "batch_jobs.render_catalog", "--catalog", str(catalog), "--workers", "1"]
    subprocess.run(
        [*command, "--out", str(tmp_path / "out")],
        check=True,
        timeout=120,
    )
    [row] = pq.read_table(tmp_path / "out" / "tracks").to_pylist()

    assert row["track_id"] == over_http["id"]
    assert not row["cache_hit"], "the catalog has a store of its own, so this was a second render"
    audio = {}
    for store, key in (
        (TrackStore.open(str(service.store)), service.signing_key),
        (TrackStore.open(str(tmp_path / "out" / "store")), Path(os.environ["ORCHESTRION_SIGNING_KEY"])),
    ):
        signed = SignedRecord.from_bytes(store.record(row["track_id"], 1))
        audio[store.url] = store.get_blob(signed.record.audio_key)
        keys = load_trusted_keys(key.with_suffix(".pub.pem"))
        verify(signed, audio[store.url], keys)
        flipped = bytearray(audio[store.url])
        flipped[len(flipped) // 2] ^= 1
        with pytest.raises(VerificationFailed):
            verify(signed, bytes(flipped), keys)
        with pytest.raises(VerificationFailed):
            verify(replace(signed, record=replace(signed.record, cost_usd=0.0)), audio[store.url], keys)
    assert len(set(audio.values())) == 1
