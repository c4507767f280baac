"""The composer's music before it sounds: tempo, key, form, mood, theme, negative prompt."""

from __future__ import annotations

import io
import itertools
from dataclasses import replace

import mido
import pytest

from orchestrion.errors import InvalidRequest
from orchestrion.models.composer.composition.form import build_form
from orchestrion.models.composer.composition.repertoire import RECIPES
from orchestrion.models.composer.composition.theme import find_key, read_theme
from orchestrion.models.composer.model import compose
from orchestrion.models.composer.score import Note, Score, key_signature, midi_bytes
from orchestrion.models.protocol import Conditioning
from orchestrion.tracks.musical_key import Key
from orchestrion.tracks.spec import TrackSpec
from orchestrion.tracks.vocabulary import MOODS, STYLES

ODE_TO_JOY = (64, 64, 65, 67, 67, 65, 64, 62, 60, 60, 62, 64, 64, 62, 62)
ODE_LENGTHS = (1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1.5, 0.5, 2)


def conditioning(prompt: str = "music", negative_prompt: str = "", **changes: object) -> Conditioning:
    """What the words of a prompt ask for, and what else is given."""
    spec = {"prompt": prompt, "negative_prompt": negative_prompt}
    said = Conditioning.of(TrackSpec.from_json(spec).resolve().composition, None, None)
    return replace(said, **({"duration_s": 30.0, "seed": 0} | changes))


def score_of(prompt: str = "music", **changes: object) -> Score:
    return compose(conditioning(prompt, **changes))[1]


def midi_theme(pitches: tuple[int, ...] = ODE_TO_JOY, lengths: tuple[float, ...] = ODE_LENGTHS) -> bytes:
    file = mido.MidiFile(ticks_per_beat=480)
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(100))])
    for pitch, length in zip(pitches, lengths, strict=True):
        track.append(mido.Message("note_on", note=pitch, velocity=90))
        track.append(mido.Message("note_off", note=pitch, time=round(480 * length)))
    file.tracks.append(track)
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("style", STYLES)
def test_every_style_has_a_whole_band_and_a_form(style: str) -> None:
    score = score_of(style=style)
    assert {"lead", "bass"} <= {part.role for part in score.parts}
    assert len(score.parts) >= 3
    assert all(part.notes for part in score.parts)
    assert len({section.label for section in score.sections}) >= 2


def test_no_two_styles_are_alike() -> None:
    recipes = list(RECIPES.values())
    for one, other in itertools.combinations(recipes, 2):
        same_band = {v.program for v in one.voices} == {v.program for v in other.voices}
        same_playing = {v.pattern for v in one.voices} == {
            v.pattern for v in other.voices
        } and one.groove == other.groove
        assert not same_band
        assert not same_playing


@pytest.mark.parametrize("tempo_bpm", [30.0, 77.5, 128.0, 300.0])
def test_midi_has_the_asked_tempo_key_and_metre(tempo_bpm: float) -> None:
    for style, metre in (("pop", 4), ("waltz", 3)):
        score = score_of(style=style, tempo_bpm=tempo_bpm, key=Key.parse("Eb major"))
        events = list(itertools.chain(*mido.MidiFile(file=io.BytesIO(midi_bytes(score))).tracks))
        tempo = next(e for e in events if e.type == "set_tempo")
        assert mido.tempo2bpm(tempo.tempo) == pytest.approx(tempo_bpm, rel=1e-4)
        assert next(e.key for e in events if e.type == "key_signature") == "Eb"
        assert next(e.numerator for e in events if e.type == "time_signature") == metre


def test_midi_has_a_named_track_with_its_program_for_each_part() -> None:
    score = score_of(style="jazz", prompt="jazz with flute")
    tracks = mido.MidiFile(file=io.BytesIO(midi_bytes(score))).tracks[1:]
    assert [t.name for t in tracks] == [f"{p.role}: {p.instrument.name}" for p in score.parts]
    lead = next(t for t in tracks if t.name.startswith("lead"))
    assert next(m.program for m in lead if m.type == "program_change") == 73
    drums = next(t for t in tracks if t.name.startswith("drums"))
    assert {m.channel for m in drums if not m.is_meta} == {9}


@pytest.mark.parametrize(
    "key", [f"{tonic} {mode}" for tonic in ("C", "F#", "Ab") for mode in ("major", "minor", "dorian")]
)
def test_notes_are_in_the_asked_key(key: str) -> None:
    wanted = Key.parse(key)
    scale = {(wanted.tonic + step) % 12 for step in wanted.steps}
    for style in ("pop", "house", "folk", "ambient"):
        score = score_of(style=style, key=wanted)
        pitches = [
            n.pitch % 12 for p in score.parts if not p.instrument.is_drums and p.role != "riser" for n in p.notes
        ]
        inside = sum(pitch in scale for pitch in pitches) / len(pitches)
        assert inside > 0.85, (style, inside)


@pytest.mark.parametrize("mood", MOODS)
def test_mode_follows_the_mood(mood: str) -> None:
    for style in ("pop", "house", "cinematic", "lofi"):
        key = score_of(style=style, mood=mood).key
        if MOODS[mood].valence < -0.15:
            assert key.is_minor, style
        if MOODS[mood].valence > 0.35:
            assert not key.is_minor, style


def test_energy_moves_tempo_density_and_loudness() -> None:
    calm, driven = (score_of(style="pop", mood=mood) for mood in ("calm", "energetic"))
    assert driven.tempo.bpm > calm.tempo.bpm + 5

    def loudness(score: Score) -> float:
        velocities = [n.velocity for p in score.parts for n in p.notes]
        return sum(velocities) / len(velocities)

    assert loudness(driven) > loudness(calm) + 8
    assert sum(len(p.notes) for p in driven.parts) > 1.3 * sum(len(p.notes) for p in calm.parts)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("duration_s", [1.0, 2.0, 7.3, 31.0, 600.0])
def test_piece_ends_on_the_tonic_inside_its_length(style: str, duration_s: float) -> None:
    score = score_of(style=style, duration_s=duration_s)
    end_s = score.tempo.seconds(score.end_beat)
    assert 0 <= end_s < duration_s
    final = [n for p in score.parts if p.role == "bass" for n in p.notes if n.start >= score.end_beat - 0.2]
    assert {n.pitch % 12 for n in final} == {score.key.tonic}
    last_onset = max(n.start for p in score.parts for n in p.notes)
    assert last_onset < score.end_beat + 1


@pytest.mark.parametrize("bars", range(60))
@pytest.mark.parametrize("section_bars", [8, 12])
def test_form_fills_every_bar_once_and_grows(bars: int, section_bars: int) -> None:
    sections = build_form(bars, section_bars, 0.5)
    covered = [bar for s in sections for bar in range(s.first_bar, s.first_bar + s.bars)]
    assert covered == list(range(bars))
    if bars >= 24:
        assert sections[0].label == "intro"
        assert sections[-1].label == "outro"
        assert max(s.level for s in sections) > sections[0].level


def test_song_has_contrasting_sections_and_returns() -> None:
    labels = score_of(style="pop", duration_s=180.0).form.split()
    assert {"intro", "A", "B", "C", "outro"} <= set(labels)
    assert labels.count("A") >= 2


def test_section_melody_is_recognised_when_it_returns() -> None:
    score = score_of(style="pop", duration_s=120.0, tempo_bpm=120.0)
    lead = score.part("lead")
    assert lead is not None
    starts = [s.first_bar * 4 for s in score.sections if s.label == "A"]
    rhythms = [
        [round((n.start - start) * 2) for n in lead.notes if start - 0.1 <= n.start < start + 7.9] for start in starts
    ]
    shared = len(set(rhythms[0]) & set(rhythms[1])) / len(set(rhythms[0]) | set(rhythms[1]))
    assert shared > 0.7


def test_prompt_chooses_the_lead() -> None:
    for word, program in (("flute", 73), ("violin", 40), ("saxophone", 66), ("music box", 10)):
        lead = score_of(f"gentle tune with {word}", style="pop").part("lead")
        assert lead is not None
        assert lead.instrument.program == program


@pytest.mark.parametrize(
    ("negative", "prompt"),
    [("drums", "pop"), ("no drums, vocals", "pop"), ("", "pop without drums"), ("percussion", "rock")],
)
def test_unwanted_drums_stay_away(negative: str, prompt: str) -> None:
    assert score_of(prompt, negative_prompt=negative, style="pop").part("drums") is None


def test_unwanted_instruments_stay_away() -> None:
    score = score_of("pop", negative_prompt="piano, guitar", style="pop")
    assert not {p.instrument.program for p in score.parts if not p.instrument.is_drums} & {0, 1, 2, 3, *range(24, 32)}
    assert score.part("bass") is not None


def test_seeds_and_prompts_give_other_pieces() -> None:
    def melody(**changes: object) -> tuple[Note, ...]:
        lead = score_of(style="pop", **changes).part("lead")
        assert lead is not None
        return lead.notes

    assert melody(seed=1) == melody(seed=1)
    assert melody(seed=1) != melody(seed=2)
    assert melody(prompt="pop one") != melody(prompt="pop two")


def intervals(pitches: list[int]) -> list[int]:
    return [b - a for a, b in itertools.pairwise(pitches)]


@pytest.mark.parametrize("style", ["cinematic", "jazz", "chiptune"])
def test_lead_states_the_theme(style: str) -> None:
    score = score_of(style=style, theme=midi_theme(), key=Key.parse("F major"), tempo_bpm=100.0, duration_s=40.0)
    lead = score.part("lead")
    assert lead is not None
    first_a = next(s.first_bar for s in score.sections if s.label == "A") * 4
    stated = [n.pitch for n in lead.notes if first_a - 0.2 <= n.start][: len(ODE_TO_JOY)]
    assert intervals(stated) == intervals(list(ODE_TO_JOY))
    assert stated[8] % 12 == Key.parse("F major").tonic


def test_piece_takes_the_key_of_its_theme() -> None:
    in_d = tuple(pitch + 2 for pitch in ODE_TO_JOY)
    assert score_of(style="pop", theme=midi_theme(in_d)).key == Key.parse("D major")


def test_theme_in_major_is_bent_to_an_asked_minor() -> None:
    theme = read_theme(midi_theme())
    moved = theme.in_key(Key.parse("C minor"))
    assert [n.pitch for n in moved][:4] == [63, 63, 65, 67]


def test_key_of_a_melody() -> None:
    notes = [Note(float(i), 1.0, pitch, 90) for i, pitch in enumerate((69, 72, 76, 74, 72, 71, 69, 68, 69))]
    assert find_key(notes) == Key.parse("A minor")


@pytest.mark.parametrize(
    "content",
    [b"", b"MThd", b"MThd" + b"\xff" * 40, b"RIFF\x00\x00", bytes(1000), midi_theme()[:20], midi_theme((), ())],
)
def test_broken_theme_is_refused_by_name(content: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        compose(conditioning(theme=content))
    assert caught.value.problems[0].field == "theme"


def test_key_signatures() -> None:
    assert key_signature(Key.parse("D minor")) == "Dm"
    assert key_signature(Key.parse("D dorian")) == "C"
    assert key_signature(Key.parse("F# lydian")) == "Db"


@pytest.mark.parametrize("style", ["blues", "jazz", "trap", "raga", "ambient"])
def test_no_note_of_the_midi_file_is_ended_by_the_one_before_it(style: str) -> None:
    score = score_of(style=style)
    tracks = mido.MidiFile(file=io.BytesIO(midi_bytes(score))).tracks[1:]
    for part, track in zip(score.parts, tracks, strict=True):
        sounding: set[int] = set()
        struck = 0
        for message in track:
            if message.type == "note_on":
                assert message.note not in sounding
                sounding.add(message.note)
                struck += 1
            elif message.type == "note_off":
                sounding.remove(message.note)
        at_once = {(round(note.start * 480), note.pitch) for note in part.notes}
        assert struck == len(at_once)


def test_what_ends_without_a_bass_ends_on_its_root() -> None:
    for style in ("piano", "classical", "folk"):
        for ensemble, instruments in (("only", ("piano",)), ("duo", ("clarinet", "bassoon"))):
            score = score_of(style=style, ensemble=ensemble, instruments=instruments, exclude=("bass",))
            last = [note.pitch for part in score.parts for note in part.notes if note.start > score.end_beat - 0.2]
            assert min(last) % 12 == score.key.tonic, (style, instruments)
