"""Tracks go from one place of a bucket to another on a real S3 server: names of any language, and run again."""

import pytest
from prometheus_client import CollectorRegistry

from batch_jobs.export_catalog import main
from orchestrion.accounting.cost import Node
from orchestrion.rendering.renderer import Renderer
from orchestrion.storage.object_store import Objects
from orchestrion.storage.track_store import TrackStore
from orchestrion.telemetry.metrics import PrometheusRecorder
from orchestrion.trust.signing import Signer
from tests.fake_model import MIDI, ToneModel
from tests.servers.seaweedfs import options_argument
from tests.unit.batch_jobs.conftest import SteppingClock
from tests.unit.batch_jobs.export.exported import RenderedCatalog


@pytest.fixture
def catalog(s3_server, tmp_path):
    url = s3_server.new_url()
    renderer = Renderer(
        models={"tone": ToneModel()},
        store=TrackStore.open(f"{url}/store", s3_server.storage_options),
        signer=Signer.create(tmp_path / "key.pem"),
        node=Node("node-1", "local-cpu", "cpu-core", "on-demand", 0.36, "a test"),
        pool="batch",
        recorder=PrometheusRecorder(CollectorRegistry()),
        clock=SteppingClock(),
    )
    return RenderedCatalog(url, renderer, s3_server.storage_options)


def test_tracks_go_from_bucket_to_bucket_and_only_what_changed_goes_again(catalog, s3_server, tmp_path, capsys):
    def export(*arguments):
        command = ["--ledger", catalog.url, "--to", to.url, "--midi", "--signing-key", str(tmp_path / "key.pem")]
        code = main([*command, "--storage-options", options_argument(s3_server.storage_options, tmp_path), *arguments])
        return code, capsys.readouterr()

    to = Objects(f"{catalog.root}/files", s3_server.storage_options, readable_names=True)
    kept, renamed, withdrawn = catalog.add(
        {"title": "Für Elise 🎹", "seed": 1}, {"title": "漢字 50% + 1?", "seed": 2}, {"title": "no", "seed": 3}
    )

    code, printed = export("--name", "{model}/{title}.{format}")

    assert code == 0 and "3 copied" in printed.out, printed.err
    assert to.read("tone/Für Elise 🎹.flac") == catalog.renderer.store.get_blob(kept.record.audio_key)
    assert to.read("tone/漢字 50% + 1_.flac.mid") == MIDI
    assert "tone/Für Elise 🎹.flac" in to.read("playlist.m3u8").decode().splitlines()

    assert "0 copied (0.0 MB), 3 there already" in export("--name", "{model}/{title}.{format}")[1].out

    catalog.add({"title": "Für Elise 🎹", "seed": 1}, {"title": "New", "seed": 2}, {"title": "no", "seed": 3})
    catalog.withdraw(withdrawn)
    code, printed = export("--name", "{model}/{title}.{format}", "--delete")

    assert code == 0 and "1 copied" in printed.out, printed.err
    names = {f"tone/{title}.flac{ending}" for title in ("Für Elise 🎹", "New") for ending in ("", ".mid", ".json")}
    assert set(to.keys("tone")) == names
    assert to.read("tone/New.flac") == catalog.renderer.store.get_blob(renamed.record.audio_key)


def test_a_bucket_that_is_not_there_is_exit_code_3(catalog, s3_server, tmp_path, capsys):
    catalog.add({"title": "a", "seed": 1})
    options = [
        "--storage-options",
        options_argument(s3_server.storage_options, tmp_path),
        "--signing-key",
        str(tmp_path / "key.pem"),
    ]

    assert main(["--ledger", catalog.url, "--to", "s3://no-such-bucket/files", *options]) == 3

    assert "check that the bucket exists" in capsys.readouterr().err
