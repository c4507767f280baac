"""A MusicGen behind both pools and a catalog job: one seed, one audio, whatever else is being served."""

import csv
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pyarrow.parquet as pq
import pytest

REQUEST = {
    "prompt": "happy rock song with electric guitar",
    "duration_s": 3.5,
    "seed": 23,
    "format": "flac",
    "purpose": "research",
}


@pytest.fixture
def musicgen(service):
    with httpx.Client(base_url=service.musicgen_url, timeout=120) as session:
        yield session


def ok(answer):
    assert answer.is_success, answer.text
    return answer


def forget(service):
    """Empties the store, so that the same request is rendered once more."""
    shutil.rmtree(service.musicgen_store / "tracks", ignore_errors=True)


def test_one_seed_is_one_audio_from_both_pools_and_from_a_catalog(musicgen, service, tmp_path):
    def make(session_path="/v1/tracks", **changes):
        return ok(musicgen.post(session_path, json=REQUEST | changes)).json()

    with ThreadPoolExecutor(4) as clients:
        neighbours = [clients.submit(make, seed=seed, duration_s=2.0 + seed) for seed in (1, 2, 3)]
        low_latency = make()
        for neighbour in neighbours:
            neighbour.result()
    forget(service)
    batch = make("/v1/tracks?priority=batch")
    catalog = tmp_path / "catalog.csv"
    with catalog.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, REQUEST)
        writer.writeheader()
        writer.writerows([REQUEST, REQUEST | {"seed": 1, "duration_s": 6}])
    command = [sys.executable, "-m", "batch_jobs.render_catalog", "--catalog", str(catalog), "--workers", "1"]
    subprocess.run(
        [*command, "--out", str(tmp_path / "out"), "--model", service.musicgen_entry],
        check=True,
        timeout=180,
    )
    rows = {row["seed"]: row for row in pq.read_table(tmp_path / "out" / "tracks").to_pylist()}

    assert low_latency["id"] == batch["id"] == rows[23]["track_id"]
    assert low_latency["record"]["pool"] == "low-latency"
    assert batch["record"]["pool"] == "batch"
    assert {low_latency["record"]["audio_sha256"], batch["record"]["audio_sha256"]} == {rows[23]["audio_sha256"]}
    assert rows[23]["model"] == "mono"
    assert rows[23]["weights_licence"] == "CC-BY-NC-4.0"
    assert rows[23]["device_seconds"] > 0


def test_non_commercial_weights_refuse_a_commercial_purpose(musicgen):
    answer = musicgen.post("/v1/tracks", json={"prompt": "jazz", "duration_s": 2})

    assert answer.status_code == 403
    assert "CC-BY-NC-4.0" in answer.json()["detail"]


def test_a_newcomer_hears_music_before_a_long_track_ends(musicgen, service):
    forget(service)
    long_request = REQUEST | {"duration_s": 120.0, "seed": 501}
    with musicgen.stream("POST", "/v1/tracks/stream", json=long_request) as long:
        chunks = long.iter_raw()
        next(chunks)
        newcomer = ok(musicgen.post("/v1/tracks", json=REQUEST | {"duration_s": 2.0, "seed": 502}))
        rest = sum(map(len, chunks))

    assert rest > 0
    assert newcomer.json()["record"]["batch_size"] >= 1


def test_models_say_what_they_follow(musicgen):
    models = musicgen.get("/v1/models").json()["models"]

    assert [(model["name"], model["channels"]) for model in models] == [("mono", 1), ("stereo", 2)]
    assert set(models[0]["controls"]) >= {"continuation", "guidance", "temperature", "top_k", "top_p"}
    assert {"bars", "loop"} <= set(models[0]["controls"])
    assert {"exclude", "instruments", "metre"} <= set(models[0]["hears"])
    assert not any(model["commercial_use"] for model in models)


def test_a_record_says_what_was_heard_of_a_prompt(musicgen):
    wish = REQUEST | {"prompt": "rock sin batería, en bucle de un compás, 120 bpm", "exclude": ["choir"]}
    answer = ok(musicgen.post("/v1/tracks", json={name: wish[name] for name in wish if name != "duration_s"})).json()

    assert answer["record"]["prompt"] == wish["prompt"]
    assert answer["record"]["choices"]["caption"] == "Rock music. bpm: 120.0"
    assert answer["record"]["choices"]["negative_caption"] == "choir, drums"
    assert (answer["record"]["loop"], answer["record"]["duration_s"]) == (True, 2.0)


def test_models_take_turns_in_memory_and_come_back_the_same(musicgen, service):
    def make(model):
        wish = REQUEST | {"model": model, "duration_s": 2.0, "seed": 77}
        return ok(musicgen.post("/v1/tracks", json=wish)).json()["record"]

    before, other = make("mono"), make("stereo")
    forget(service)
    after = make("mono")

    assert other["audio_sha256"] != before["audio_sha256"] == after["audio_sha256"]
    assert after["created_at"] > before["created_at"]


def test_a_track_goes_on_from_uploaded_audio(musicgen, service):
    first = ok(musicgen.post("/v1/tracks", json=REQUEST | {"duration_s": 2.0, "seed": 7})).json()
    audio = musicgen.get(f"/v1/tracks/{first['id']}/audio").content
    upload = ok(musicgen.post("/v1/themes", content=audio, headers={"content-type": "audio/flac"}))

    longer = musicgen.post("/v1/tracks", json=REQUEST | {"duration_s": 4.0, "continuation": upload.json()["theme"]})
    too_short = musicgen.post("/v1/tracks", json=REQUEST | {"duration_s": 1.5, "continuation": upload.json()["theme"]})

    assert longer.status_code == 201, longer.text
    assert too_short.status_code == 422
    assert "ask for more" in too_short.text
