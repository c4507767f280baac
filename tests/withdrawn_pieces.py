"""Fifty pieces, made in every way there is and withdrawn: nothing of them can be had, whatever the store.

Subclasses give a fixture `place`: the settings of a service whose store is empty.
"""

import hashlib
from dataclasses import dataclass, replace

import pytest
from prometheus_client import CollectorRegistry

from orchestrion.cli.main import main
from orchestrion.models.piece_cache import PieceCache
from orchestrion.models.protocol import Conditioning, Performance
from orchestrion.rendering.executor import Executor
from orchestrion.rendering.policy import catalog_policy
from orchestrion.rendering.stall import Stage
from orchestrion.storage.verified_tracks import VerifiedTracks
from orchestrion.telemetry.metrics import PrometheusRecorder
from orchestrion.tracks.record import TrackRecord
from orchestrion.tracks.spec import TrackSpec
from tests.fake_model import MIDI, ToneModel
from tests.ingress_app import BODY, Service
from tests.servers.seaweedfs import options_argument
from tests.unit.batch_jobs.export.exported import RenderedCatalog
from tests.unit.rendering.test_executor import InlineThreads

PIECES = 50
STANDING = 5
#: In which a piece is made; and those in which it is asked for when it is withdrawn.
FORMS = ({"format": "wav"}, {"format": "flac", "fade_out_s": 0.25}, {"format": "mp3"})
NEW_FORMS = ({"format": "ogg"}, {"format": "wav", "fade_in_s": 0.25}, {"format": "flac", "loudness_lufs": -20})


class ScoredTones(ToneModel):
    """Each piece has a score of its own."""

    def perform(self, conditioning: Conditioning, **options) -> Performance:
        score = MIDI + conditioning.seed.to_bytes(4, "big")
        return replace(super().perform(conditioning, **options), write_midi=lambda: score)


@dataclass
class Made:
    """What is known of the pieces before they are withdrawn."""

    service: Service
    catalog: RenderedCatalog
    #: By seed.
    tracks: dict[int, list[TrackRecord]]


def body(seed, **form):
    return BODY | {"model": "tone", "seed": seed} | form


def make_all(folder, place) -> Made:
    """Pieces by HTTP, as streams, by Python as the command does, and as rows of a catalog."""
    service = Service(folder, ScoredTones(), **place)
    renderer = service.renderer
    renderer.pieces = PieceCache(256 << 20)
    catalog = RenderedCatalog(folder, renderer)
    tracks: dict[int, list[TrackRecord]] = {}
    for seed in range(PIECES + STANDING):
        assert service.post("/v1/tracks", json=body(seed, **FORMS[0])).status_code == 201
        assert service.post("/v1/tracks/stream", json=body(seed, **FORMS[1])).status_code == 200
        renderer.render(TrackSpec.from_json(body(seed, **FORMS[2])).resolve())
        ids = [renderer.track_id(TrackSpec.from_json(body(seed, **form)).resolve()) for form in FORMS]
        tracks[seed] = [renderer.tracks.newest(track_id).record for track_id in ids]
    catalog.add(*({**body(seed, **FORMS[2]), "title": f"title {seed}"} for seed in range(PIECES + STANDING)))
    return Made(service, catalog, tracks)


class WithdrawnPieces:
    """The contract."""

    @pytest.fixture(scope="class")
    def made(self, tmp_path_factory, place):
        folder = tmp_path_factory.mktemp("pieces")
        made = make_all(folder, place)
        ids = "\n".join(made.tracks[seed][0].track_id for seed in range(PIECES))
        (folder / "ids.txt").write_text(ids)
        self.have_withdrawn(made, folder)
        return made

    def have_withdrawn(self, made: Made, folder) -> None:
        """By the command, as an operator does, by the id of one track of each."""
        options = options_argument(made.service.config.storage_options, folder)
        arguments = ["--store", made.service.config.store_url, "--signing-key", str(folder / "key.pem")]
        why = ["--reason", "claim 17", "--actor", "ann", "--storage-options", options]
        assert main(["takedown", *arguments, "--from", str(folder / "ids.txt"), *why]) == 0

    @staticmethod
    def gone(made):
        return [track for seed in range(PIECES) for track in made.tracks[seed]]

    def test_by_no_address_of_any_track(self, made):
        for number, track in enumerate(self.gone(made)):
            for part in ("/audio", ("", "/midi", "/provenance")[number // len(FORMS) % 3]):
                assert made.service.get(f"/v1/tracks/{track.track_id}{part}").status_code == 410
        for track in self.gone(made)[:6]:
            address, etag = f"/v1/tracks/{track.track_id}/audio", f'"{track.audio_sha256}"'
            for headers in ({"Range": "bytes=0-9"}, {"If-None-Match": etag}, {"Range": "bytes=5-", "If-Range": etag}):
                assert made.service.get(address, headers=headers).status_code == 410
            assert made.service.request("HEAD", address).status_code == 410

    def test_by_no_request_in_any_form_over_http_or_as_a_stream(self, made):
        model = made.service.renderer.models["tone"]
        performed = model.performed
        for seed in range(PIECES):
            for form in (FORMS[seed % 3], NEW_FORMS[seed // 3 % 3]):
                answer = made.service.post("/v1/tracks", json=body(seed, **form))
                assert (answer.status_code, answer.json()["type"]) == (410, "urn:orchestrion:problem:withdrawn")
            stream = made.service.post("/v1/tracks/stream", json=body(seed, **NEW_FORMS[seed % 3]))
            assert stream.status_code == 410
        assert model.performed == performed

    def test_by_no_render_of_the_command_or_of_a_catalog_and_out_of_no_memory(self, made):
        renderer = made.service.renderer
        performed = renderer.models["tone"].performed
        threads = dict.fromkeys(Stage, InlineThreads())
        executor = Executor(renderer, catalog_policy(1, 0), renderer.clock, threads=threads)
        for seed in range(PIECES):
            for form in (FORMS[seed % 3], NEW_FORMS[seed // 3 % 3]):
                request = TrackSpec.from_json(body(seed, **form)).resolve()
                if form in FORMS:
                    assert renderer.render(request).code == "withdrawn"
                    continue
                listener = executor.join(request, renderer.track_id(request), wake=lambda: None)
                while executor.step():
                    pass
                assert listener.task.outcome.code == "withdrawn"
            assert not renderer.pieces.has(made.tracks[seed][0].piece_id)
        assert renderer.models["tone"].performed == performed

    def test_as_no_blob_of_audio_or_score(self, made):
        store = made.service.renderer.store
        for track in self.gone(made):
            for key in (track.audio_key, track.midi_key):
                assert not store.has_blob(key)
        sums = {sha256 for track in self.gone(made) for sha256 in (track.audio_sha256, track.midi_sha256)}
        assert sums.isdisjoint(hashlib.sha256(data).hexdigest() for data in self.all_bytes(made))

    def all_bytes(self, made):
        """Every byte string that the store has, under whatever name and version."""
        raise NotImplementedError

    def test_in_no_export(self, made):
        to = made.catalog.root / "files"
        options = options_argument(made.service.config.storage_options, made.catalog.root)

        assert made.catalog.export("--midi", "--storage-options", options, to=to) == 0

        names = {path.name for path in to.rglob("*") if path.is_file()}
        assert {name for name in names if name.startswith("title ")} == {
            f"title {seed}-{seed}.mp3{ending}" for seed in range(PIECES, PIECES + STANDING) for ending in ("", ".mid")
        }

    def test_and_what_was_not_withdrawn_stands(self, made):
        renderer = made.service.renderer
        tracks = VerifiedTracks(renderer.store, renderer.trusted_keys, PrometheusRecorder(CollectorRegistry()))
        for seed in range(PIECES, PIECES + STANDING):
            for track in made.tracks[seed]:
                record = tracks.newest(track.track_id).record
                assert renderer.store.get_blob(record.audio_key) and renderer.store.get_blob(record.midi_key)
                assert made.service.get(f"/v1/tracks/{track.track_id}/audio").status_code == 200
            assert made.service.post("/v1/tracks", json=body(seed, **NEW_FORMS[0])).status_code in (200, 201)
