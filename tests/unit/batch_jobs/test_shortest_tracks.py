"""The shortest tracks that a catalog may ask for, at both ends of loudness and with nothing but fades, are tracks."""

import pytest

from batch_jobs.catalog.rows import read_catalog
from orchestrion.tracks.outcome import Track
from orchestrion.tracks.request import AudioFormat


@pytest.mark.parametrize("loudness_lufs", [-30, -9])
@pytest.mark.parametrize("container", AudioFormat)
def test_one_second_with_full_fades_at_either_end_of_loudness_is_a_track(tmp_path, renderer, container, loudness_lufs):
    (tmp_path / "c.csv").write_text(
        "row_id,prompt,model,duration_s,format,fade_in_s,fade_out_s,loudness_lufs\n"
        f"l,a tone,tone,1,{container},0.5,0.5,{loudness_lufs}\n",
        encoding="utf-8",
    )
    [row] = read_catalog(str(tmp_path / "c.csv"), {}, lambda _: pytest.fail("no themes"), "tone", lambda _, line: line)

    track = renderer.render(row.request)

    assert isinstance(track, Track), track
    assert track.record.duration_s == 1.0 and track.record.loudness_lufs == loudness_lufs
    assert all(finding.passed for finding in track.record.findings)
