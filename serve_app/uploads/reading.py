"""What an upload is found to be when it is read as it will be when it is used; refused where it cannot be used so."""

from __future__ import annotations

from orchestrion.audio.midi import is_midi, read_midi
from orchestrion.audio.uploads import check_continuation, read_audio, refuse_longer
from orchestrion.models.composer.composition.theme import Theme, theme_of_midi, theme_of_recording
from serve_app.uploads.found import UploadReading, UploadUse


def read_upload(data: bytes, use: UploadUse) -> UploadReading:
    """Read a file through.

    Raises:
        InvalidRequest: it cannot be used so.
    """
    if use is UploadUse.CONTINUATION:
        sound = check_continuation(data)
        return UploadReading(sound.kind, round(len(sound.audio) / sound.rate_hz, 3))
    if is_midi(data):
        midi = read_midi(data, "theme")
        refuse_longer(data, midi.duration_s, "theme")
        return _with_melody("MIDI", midi.duration_s, theme_of_midi(midi, data))
    sound = read_audio(data, "theme")
    duration_s = len(sound.audio) / sound.rate_hz
    refuse_longer(data, duration_s, "theme")
    return _with_melody(sound.kind, duration_s, theme_of_recording(sound, data))


def _with_melody(kind: str, duration_s: float, theme: Theme) -> UploadReading:
    return UploadReading(
        kind, round(duration_s, 3), len(theme.notes), str(theme.key), round(theme.tempo_bpm, 1), theme.metre
    )
