"""The stages that every track goes through, in their order, on one page.

    admit → generate → master → quality → encode → file → store → sign → account

`Rendering` generates, chunk by chunk, and stores, signs and accounts, for these wait for a model or a store. What comes
before and between are the stages below. Each is told one track and does its part of the work, or says what it thinks
of it, or both: it lets the track go on, it holds it (the track is stored, and given to nobody until a person has
decided), or it blocks it by raising the error that the caller is to see. What a stage attests goes into the record.

A new stage is a function and a line in one of the two lists. One that needs something of its own (an index, a policy)
is an object that was made with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Final

from orchestrion.audio.encode import encode
from orchestrion.audio.mastering import FinishSpec, finish
from orchestrion.audio.pcm import Pcm
from orchestrion.audio.quality import check, check_encoded
from orchestrion.errors import CheckFailed
from orchestrion.finding import Finding
from orchestrion.models.protocol import ModelInfo
from orchestrion.rendering.stopwatch import Stopwatch
from orchestrion.rendering.suitability import refuse_unsuitable
from orchestrion.tracks.attestation import Attestation, Verdict
from orchestrion.tracks.request import TrackRequest


@dataclass(slots=True)
class Work:
    """One track on its way through the stages, and what is known of it so far."""

    request: TrackRequest
    #: The id that the finished track will have.
    track_id: str
    #: Of the piece that it is made of.
    piece_id: str
    info: ModelInfo
    watch: Stopwatch
    #: Whether another track had the piece made.
    piece_reused: bool = False
    #: The piece as the model made it, [samples, channels] at the model's rate; until it is mastered.
    raw: Pcm | None = None
    #: The score, of models that have one, and what the model chose.
    midi: bytes | None = None
    choices: Mapping[str, str | float] = field(default_factory=dict)
    #: The finished audio, [samples, channels] at the rate that was asked for; until the file has been checked.
    audio: Pcm | None = None
    #: The audio file.
    data: bytes = b""
    findings: list[Finding] = field(default_factory=list)
    attestations: list[Attestation] = field(default_factory=list)

    @property
    def spec(self) -> FinishSpec:
        """What the finished audio must be."""
        return FinishSpec.of(self.request)

    def attest(
        self,
        stage: str,
        reference: str,
        verdict: Verdict = Verdict.ALLOW,
        figure: float | None = None,
        limit: float | None = None,
    ) -> None:
        """Note for the record what a stage found; see `Attestation`."""
        self.attestations.append(Attestation(stage, verdict, figure, limit, reference))


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the pipeline."""

    #: Of its attestations.
    name: str
    run: Callable[[Work], None]
    #: The part of a track's time that it is counted and charged to, and that its failures are told of; None: it takes
    #: no time worth counting.
    counts_to: str | None = None


def admit(work: Work) -> None:
    """Whether the model can and may make this: length, controls, licence of the weights against the purpose.

    Raises:
        InvalidRequest: the model cannot.
        RightsRefused: it must not.
    """
    refuse_unsuitable(work.request, work.info)
    work.attest("admit", work.info.weights_licence)


def master(work: Work) -> None:
    """Length, fades, loudness under a true-peak ceiling."""
    raw, work.raw = work.raw, None
    work.audio = finish(_there(raw, "generated"), work.info.sample_rate_hz, work.spec)


def quality(work: Work) -> None:
    """The gate: what is silent, clipped, too short or too loud goes no further.

    Raises:
        CheckFailed: with every figure.
    """
    work.findings += check(_there(work.audio, "mastered"), work.spec.sample_rate_hz, work.spec)
    _pass(work, "quality")


def encode_audio(work: Work) -> None:
    """The finished audio as a file."""
    work.data = encode(_there(work.audio, "mastered"), work.spec.sample_rate_hz, work.request.delivery.format)


def file_quality(work: Work) -> None:
    """The same gate for the file, as a player decodes it.

    Raises:
        CheckFailed: with every figure.
    """
    channels = _there(work.audio, "mastered").shape[1]
    work.findings += check_encoded(work.data, work.request.delivery.format, work.spec, channels)
    _pass(work, "file")
    work.audio = None


#: Before anything is made.
ADMISSION: Final = (Stage("admit", admit),)
#: From the whole piece to the file that is stored.
FINISHING: Final = (
    Stage("master", master, counts_to="finish"),
    Stage("quality", quality, counts_to="check"),
    Stage("encode", encode_audio, counts_to="encode"),
    Stage("file", file_quality, counts_to="check"),
)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stages of one deployment."""

    admission: Sequence[Stage] = ADMISSION
    finishing: Sequence[Stage] = FINISHING


def run(stages: Sequence[Stage], work: Work) -> None:
    """Take `work` through these stages, in order; raises what the one that blocks it raises."""
    for stage in stages:
        with nullcontext() if stage.counts_to is None else work.watch.stage(stage.counts_to):
            stage.run(work)


def _pass(work: Work, stage: str) -> None:
    failed = sum(not finding.passed for finding in work.findings)
    if failed:
        raise CheckFailed(work.findings)
    work.attest(stage, "findings", figure=float(failed), limit=0.0)


def _there(audio: Pcm | None, how: str) -> Pcm:
    if audio is None:
        raise RuntimeError(f"the piece is not {how} here; mind the order of the stages")
    return audio
