"""A small catalog that was rendered for true: tracks in a folder's store, and the ledger that has their rows."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from batch_jobs.export_catalog import main
from batch_jobs.ledger.ledger import Ledger
from batch_jobs.ledger.snapshot import Change, JobEntry, Totals
from batch_jobs.ledger.tables import TRACKS_SCHEMA
from batch_jobs.settlement.outcomes import RowContext, track_row
from orchestrion.storage.object_store import Objects
from orchestrion.storage.takedown import take_down
from orchestrion.tracks.attestation import Attestation, Verdict
from orchestrion.tracks.outcome import Track
from orchestrion.tracks.spec import TrackSpec

START = datetime(2026, 1, 1, tzinfo=UTC)


class RenderedCatalog:
    """Rows of a ledger at `root`/ledger, each with its track in the store of `renderer`, at `root`/store."""

    def __init__(self, root, renderer, storage_options=None):
        self.root = root
        self.renderer = renderer
        self.url = f"{root}/ledger"
        self.ledger = Ledger(Objects(self.url, storage_options), renderer.clock)
        self.jobs = 0

    def add(self, *rows, store=None):
        """Render these rows, each what it asks for with its title and row_id, as one job more. Returns the tracks."""
        self.jobs += 1
        job_id, made, table = f"job-{self.jobs}", [], []
        for line, row in enumerate(rows, start=2):
            asked = {"prompt": "a tone", "model": "tone", "duration_s": "2", "format": "flac"} | row
            context = RowContext(
                job_id, "run-1", line, asked.pop("row_id", None), asked.pop("title", None), asked.pop("kept", {})
            )
            request = TrackSpec.from_text({name: str(value) for name, value in asked.items()}).resolve()
            track = self.renderer.render(request)
            assert isinstance(track, Track), track
            now = START + timedelta(days=self.jobs, seconds=line)
            table.append(track_row(context, request, track, not track.cache_hit, 1, now))
            made.append(track)
        self.commit(job_id, table, store or self.renderer.store.url)
        return made

    def commit(self, job_id, rows, store):
        files = self.ledger.write("tracks", pa.Table.from_pylist(rows, schema=TRACKS_SCHEMA))
        entry = JobEntry("songs.csv", "ab" * 32, store, "complete", len(rows), Totals(tracks=len(rows)), ())
        self.ledger.commit(lambda _: Change(added={"tracks": files}, jobs={job_id: entry}))

    def withdraw(self, track):
        renderer = self.renderer
        why = {"reason": "claim 17", "actor": "ann", "clock": renderer.clock}
        take_down(renderer.tracks, renderer.signer, [track.track_id], **why)

    def hold(self, track):
        """The track's next record says that a person is to decide first."""
        held = (Attestation("review", Verdict.HOLD, None, None, "a test"),)
        self.renderer.tracks.publish(
            track.track_id,
            lambda version: self.renderer.signer.sign(
                replace(track.record, version=version, attestations=held)
            ).to_bytes(),
        )

    def damage(self, track):
        """One bit of the audio in the store is another."""
        path = self.root / "store" / track.record.audio_key
        audio = bytearray(path.read_bytes())
        audio[-1] ^= 1
        path.write_bytes(audio)

    def export(self, *arguments, to=None):
        """Run the command; returns its exit code."""
        command = ["--ledger", self.url, "--to", str(to or self.root / "files"), "--sidecars", "none"]
        return main([*command, "--signing-key", str(self.root / "key.pem"), *arguments])


def files_in(folder):
    """The bytes of each file below a folder, by its name; without what is the export's own."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] != ".orchestrion"
    }
