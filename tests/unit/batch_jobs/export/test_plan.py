"""What an export decides before it reads or writes anything."""

from batch_jobs.export.manifest import OF_ALL, ExportedFile
from batch_jobs.export.plan import plan_export

ONE, TWO, THREE = ("trk_" + letter * 32 for letter in "abc")


def row(track_id, sha256, midi=None):
    return {"track_id": track_id, "audio_sha256": sha256, "midi_sha256": midi}


def file(track_id, sha256="1" * 64):
    return ExportedFile(track_id, sha256, 10)


def planned(named, before, with_midi=False, with_sidecars=False):
    return plan_export(named, before, with_midi=with_midi, with_sidecars=with_sidecars)


def test_a_track_is_new_changed_or_there():
    named = {
        "new.flac": row(ONE, "1" * 64),
        "there.flac": row(ONE, "1" * 64),
        "other bytes.flac": row(ONE, "2" * 64),
        "other track.flac": row(TWO, "1" * 64),
        "perhaps written.flac": row(ONE, "1" * 64),
    }
    before = {name: file(ONE) for name in named if name != "new.flac"}
    before["perhaps written.flac"] = file(ONE, None)

    plan = planned(named, before)

    assert [wanted.need for wanted in plan.tracks] == ["new", "there", "changed", "changed", "changed"]
    assert (plan.former, plan.gone, plan.in_the_way) == ({}, (), ())


def test_scores_and_sidecars_are_wanted_where_they_are_asked_for_and_there():
    named = {"a.flac": row(ONE, "1" * 64, midi="3" * 64), "b.flac": row(TWO, "2" * 64)}

    assert [wanted.names for wanted in planned(named, {}).tracks] == [("a.flac",), ("b.flac",)]
    assert [wanted.names for wanted in planned(named, {}, with_midi=True, with_sidecars=True).tracks] == [
        ("a.flac", "a.flac.mid", "a.flac.json"),
        ("b.flac", "b.flac.json"),
    ]


def test_what_is_left_over_is_a_former_name_or_gone_and_maybe_in_the_way():
    named = {"New.flac": row(ONE, "1" * 64), "SONG.flac": row(TWO, "2" * 64)}
    before = {
        "Old.flac": file(ONE),
        "Older.flac": file(ONE),
        "song.flac": file(TWO),
        "gone.flac": file(THREE),
        "new.flac": file(THREE),
        "tracks.csv": file(OF_ALL),
    }

    plan = planned(named, before)

    assert plan.former == {ONE: ("Old.flac", "Older.flac"), TWO: ("song.flac",)}
    assert plan.gone == ("gone.flac", "new.flac")
    assert set(plan.in_the_way) == {"song.flac", "new.flac"}
