"""The processes that read uploads: what breaks, hangs or fills them costs that upload and nothing else."""

import asyncio
import sys
import time

import psutil
import pytest

from orchestrion.audio.encode import encode
from orchestrion.errors import InvalidRequest, Overloaded
from orchestrion.tracks.request import AudioFormat
from serve_app.uploads.checks import UploadChecks
from serve_app.uploads.found import UploadReading, UploadUse
from tests.recordings import RATE_HZ, tune

#: Answers as a worker does, but for a file whose name tells it to misbehave.
MISBEHAVING = """
import os, sys, time
for line in sys.stdin:
    if "hang" in line: time.sleep(60)
    if "die" in line: os.abort()
    print('{"read": {"kind": "FLAC", "duration_s": 3.2}}', flush=True)
"""


@pytest.fixture
def melody(tmp_path):
    path = tmp_path / "melody"
    path.write_bytes(encode(tune()[:, None], RATE_HZ, AudioFormat.FLAC))
    return path


def checks(**limits):
    limits = {"processes": 1, "queue_limit": 1, "timeout_s": 20.0} | limits
    return UploadChecks(**limits)


def outcomes(checks, *paths):
    async def all_of_them():
        reading = (checks.check(path, UploadUse.THEME) for path in paths)
        return await asyncio.gather(*reading, return_exceptions=True)

    return asyncio.run(all_of_them())


def test_files_are_read_in_another_process_that_has_none_of_our_secrets(melody, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    text = tmp_path / "text"
    text.write_bytes(b"no music")
    under_test = checks(queue_limit=3)
    try:
        fine, refused, again = outcomes(under_test, melody, text, melody)

        assert fine == again
        assert (fine.kind, fine.duration_s, fine.notes) == ("FLAC", 3.2, 8)
        assert isinstance(refused, InvalidRequest)
        assert "neither MIDI nor a sound file" in str(refused)
        (worker,) = [c for c in psutil.Process().children() if "serve_app.uploads.worker" in c.cmdline()]
        assert "RAY_AUTH_TOKEN" not in worker.environ()
        assert worker.nice() == min(19, psutil.Process().nice() + 10)
    finally:
        under_test.close()
    assert not worker.is_running()


def test_more_than_may_wait_are_told_to_come_back(melody):
    under_test = checks()
    try:
        found = outcomes(under_test, *[melody] * 5)
        later = outcomes(under_test, melody)
    finally:
        under_test.close()

    assert [type(outcome) for outcome in found] == [UploadReading] * 2 + [Overloaded] * 3
    assert found[-1].retry_after_s >= 1
    assert later == found[:1]


@pytest.mark.parametrize(
    "name, complaint", [("die", "breaks what reads it"), ("hang", "more than 2 s")], ids=["dies", "hangs"]
)
def test_a_file_that_takes_its_process_along_is_refused_and_the_next_is_read(melody, tmp_path, name, complaint):
    bad = tmp_path / name
    bad.write_bytes(b"x")
    under_test = checks(timeout_s=2.0, queue_limit=2, command=(sys.executable, "-c", MISBEHAVING))
    try:
        refused, fine = outcomes(under_test, bad, melody)
    finally:
        under_test.close()

    assert isinstance(refused, InvalidRequest)
    assert complaint in str(refused)
    assert fine == UploadReading("FLAC", 3.2)


def test_a_process_that_ended_because_nobody_needed_it_is_started_again(melody):
    under_test = checks()
    try:
        before = outcomes(under_test, melody)
        (worker,) = [c for c in psutil.Process().children() if "serve_app.uploads.worker" in c.cmdline()]
        worker.kill()
        worker.wait(timeout=10)
        deadline_s = time.monotonic() + 10
        while worker.is_running() and time.monotonic() < deadline_s:
            time.sleep(0.05)

        assert outcomes(under_test, melody) == before
        assert isinstance(before[0], UploadReading)
    finally:
        under_test.close()
