"""Bars, metre, tempo, sections and length: what follows from what, and what contradicts what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.errors import InvalidRequest
from orchestrion.tracks.request import Composition
from orchestrion.tracks.section import Section, sections_of_text, text_of_sections
from orchestrion.tracks.spec import TrackSpec
from orchestrion.tracks.vocabulary import METRES, SECTION_NAMES


def composed(**fields) -> Composition:
    return TrackSpec.from_json({"prompt": "something"} | fields).resolve().composition


def length_and_tempo(**fields) -> tuple[float, float | None]:
    composition = composed(**fields)
    return composition.duration_s, composition.tempo_bpm


INTRO, VERSE = {"name": "intro"}, {"name": "verse"}


@pytest.mark.parametrize(
    "fields, duration_s, tempo_bpm",
    [
        # Of bars, tempo and length two give the third.
        ({"bars": 8, "tempo_bpm": 120}, 16, 120),
        ({"bars": 8, "duration_s": 15}, 15, 128),
        ({"bars": 8, "tempo_bpm": 128, "duration_s": 15}, 15, 128),
        ({"bars": 8}, 16, 120),
        # A bar has as many beats as its metre says, and a waltz has three.
        ({"bars": 8, "metre": "3/4", "tempo_bpm": 90}, 16, 90),
        ({"bars": 8, "metre": "5/4", "tempo_bpm": 120}, 20, 120),
        ({"bars": 8, "metre": "7/8", "tempo_bpm": 140}, 12, 140),
        ({"bars": 8, "metre": "6/8", "tempo_bpm": 60}, 16, 60),
        ({"bars": 8, "metre": "12/8", "tempo_bpm": 60}, 32, 60),
        ({"bars": 8, "style": "waltz", "tempo_bpm": 90}, 16, 90),
        ({"bars": 8, "style": "waltz", "metre": "4/4", "tempo_bpm": 120}, 16, 120),
        # The tempo changes evenly, so its mean counts.
        ({"bars": 8, "tempo_bpm": 60, "tempo_end_bpm": 100}, 24, 60),
        ({"bars": 8, "duration_s": 16, "tempo_end_bpm": 100}, 16, 140),
        # The last chord rings on for at most a bar; a loop ends with its last bar.
        ({"bars": 8, "tempo_bpm": 120, "duration_s": 18}, 18, 120),
        ({"bars": 8, "tempo_bpm": 120, "duration_s": 16.005, "loop": True}, 16.005, 120),
        # What the prompt says counts where fields leave it open, and gives way where they do not.
        ({"prompt": "at 60 bpm", "bars": 8}, 32, 60),
        ({"prompt": "for 20 seconds", "bars": 8}, 20, 96),
        ({"prompt": "60 bpm, 20 seconds", "bars": 8}, 32, 60),
        ({"prompt": "at 60 bpm", "bars": 8, "duration_s": 16}, 16, 120),
        ({"prompt": "at 60 bpm", "bars": 8, "duration_s": 33}, 33, 60),
        ({"prompt": "for 2 seconds", "bars": 80}, 160, 120),
        ({"prompt": "for 20 seconds", "bars": 8, "tempo_bpm": 120}, 16, 120),
        ({"prompt": "for 20 seconds", "sections": [INTRO | {"duration_s": 8}]}, 8, None),
        # A loop at a tempo has whole bars, in fours where there are so many.
        ({"loop": True, "tempo_bpm": 170}, 16 * 20 * 60 / 170 / 4, 170),
        ({"loop": True, "tempo_bpm": 170, "duration_s": 12}, 12, 170),
        ({"prompt": "170 bpm, a loop"}, 16 * 20 * 60 / 170 / 4, 170),
        ({"loop": True, "tempo_bpm": 30, "metre": "5/4"}, 30, 30),
        # Sections.
        ({"sections": [INTRO | {"duration_s": 8}, VERSE | {"duration_s": 16}]}, 24, None),
        ({"sections": [INTRO | {"bars": 4}, VERSE | {"bars": 8}], "tempo_bpm": 90}, 32, 90),
        ({"sections": [INTRO | {"bars": 4}, VERSE | {"bars": 8}], "duration_s": 24}, 24, 120),
        ({"sections": [INTRO | {"bars": 4}, VERSE | {"bars": 8}]}, 24, 120),
        ({"sections": [INTRO | {"bars": 4}, VERSE | {"duration_s": 20}], "tempo_bpm": 80}, 32, 80),
        ({"sections": [INTRO | {"bars": 4}, VERSE], "bars": 12, "tempo_bpm": 120}, 24, 120),
        ({"sections": [INTRO | {"duration_s": 8}, VERSE | {"bars": 8}], "bars": 12, "tempo_bpm": 120}, 24, 120),
        # Sections without a length are as long as the others, or share what there is.
        ({"sections": [INTRO | {"duration_s": 8}, VERSE]}, 16, None),
        ({"sections": [INTRO, VERSE]}, 30, None),
        ({"sections": [INTRO, VERSE], "prompt": "for 50 seconds"}, 50, None),
        ({"sections": [INTRO | {"duration_s": 8}, VERSE], "duration_s": 9}, 9, None),
    ],
    ids=str,
)  # fmt: skip
def test_length_and_tempo_follow_from_what_is_given(fields, duration_s, tempo_bpm):
    assert length_and_tempo(**fields) == pytest.approx((duration_s, tempo_bpm))


def test_without_bars_and_sections_the_tempo_is_the_model_s_to_choose():
    assert length_and_tempo() == (30.0, None)
    assert length_and_tempo(tempo_end_bpm=90, metre="3/4") == (30.0, None)


def test_a_tempo_that_bars_and_length_need_is_in_range_or_refused():
    assert length_and_tempo(bars=75, duration_s=60) == (60.0, 300.0)
    with pytest.raises(InvalidRequest, match="76 bars of 4/4 in 60 s are 304 bpm; a tempo is 30 to 300"):
        composed(bars=76, duration_s=60)


def test_a_contradiction_says_what_would_follow_and_what_to_leave_out():
    with pytest.raises(
        InvalidRequest, match="8 bars of 4/4 at 120 bpm last 16 s, but duration_s is 19; leave out one of"
    ):
        composed(bars=8, tempo_bpm=120, duration_s=19)


def test_sections_that_do_not_fit_are_shown_as_text_and_not_as_python():
    sections = [INTRO | {"duration_s": 8}, VERSE | {"bars": 8}]

    with pytest.raises(InvalidRequest) as caught:
        composed(sections=sections, tempo_bpm=120, duration_s=60)

    assert caught.value.problems[0].value == "'intro 8 s, verse 8 bars'"
    assert "last 24 s together, but the track 60 s" in caught.value.problems[0].message


@given(
    bars=st.integers(1, 200), tempo_bpm=st.floats(30, 300), metre=st.sampled_from(sorted(METRES)), loop=st.booleans()
)
def test_what_follows_from_bars_can_be_said_again(bars, tempo_bpm, metre, loop):
    fields = {"bars": bars, "metre": metre, "loop": loop}
    try:
        duration_s, _ = length_and_tempo(**fields, tempo_bpm=tempo_bpm)
    except InvalidRequest as error:
        assert error.problems[0].field == "bars"
        return

    assert length_and_tempo(**fields, duration_s=duration_s, tempo_bpm=tempo_bpm) == (duration_s, tempo_bpm)
    assert length_and_tempo(**fields, duration_s=duration_s)[1] == pytest.approx(tempo_bpm)


SECTIONS = st.lists(
    st.builds(Section, st.sampled_from(SECTION_NAMES))
    | st.builds(Section, st.sampled_from(SECTION_NAMES), bars=st.integers(1, 99))
    | st.builds(Section, st.sampled_from(SECTION_NAMES), st.integers(10, 600).map(lambda tenths: tenths / 10)),
    min_size=1,
    max_size=8,
)


@given(sections=SECTIONS)
def test_sections_written_as_text_read_back(sections):
    assert [Section(**each) for each in sections_of_text(text_of_sections(sections))] == sections


@pytest.mark.parametrize(
    "text, sections",
    [
        ("intro", [Section("intro")]),
        (" part a 8 bars,Part B 1 bar ", [Section("part a", bars=8), Section("Part B", bars=1)]),
        ("intro 8s, build-up 7.5 seconds", [Section("intro", 8.0), Section("build-up", 7.5)]),
    ],
)
def test_sections_are_read_as_people_write_them(text, sections):
    assert [Section(**each) for each in sections_of_text(text)] == sections


@pytest.mark.parametrize("text", ["", "intro 8", "8 s", "intro 8 s verse", "intro,", "intro 8 min", "intro -8 s"])
def test_text_that_is_no_section_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="write for example 'intro 8 s, verse 16 bars, outro'"):
        sections_of_text(text)
