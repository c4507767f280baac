"""Every error this project raises on purpose, named for what the caller would do about it.

    OrchestrionError
    ├── InvalidRequest        mend the request; trying again as it is cannot help
    ├── NotFound              no such track, model, theme or record
    ├── Withdrawn             the track was taken down and is not made again; ask for another
    ├── OnHold                the track is made, and waits for a person to decide about it
    ├── RightsRefused         the weights' licence forbids the declared purpose
    ├── CheckFailed           the rendered audio failed a gate; carries the findings
    ├── VerificationFailed    audio, record and signature do not belong together
    ├── ModelFailed           this input broke the model; another try would break it again
    ├── Internal              something broke that nobody foresaw; report it
    └── Transient             the same call may succeed later
        ├── Overloaded        come back after `retry_after_s`
        ├── NotReady          what it needs is still starting, or was lost and is being replaced
        ├── OutOfMemory       there was no memory for it beside what else was being made
        ├── Stalled           the work made no progress for too long and was broken off
        └── StoreUnavailable  the object store did not answer or lost a write

Each class says what a failure of it is called everywhere (`code`: in HTTP problems, ledgers and metrics), whether the
same call may succeed later (`retryable`), and after how long (`retry_after_s`). What is raised otherwise, by a library
or by mistake, becomes one of them in `as_ours`. `tracks.outcome.Failure` is the value that crosses processes.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from orchestrion.finding import Finding

#: Seconds to suggest when something that may pass went wrong and nobody can say for how long.
DEFAULT_RETRY_AFTER_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with an input: where, what was given, and how to mend it."""

    field: str
    value: str
    message: str


class OrchestrionError(Exception):
    """Root of everything raised on purpose."""

    #: What a failure of this class is called, everywhere.
    code: ClassVar[str] = "internal"
    #: Whether the same call may succeed later.
    retryable: ClassVar[bool] = False
    #: Each thing that is wrong with the input.
    problems: tuple[Problem, ...] = ()
    #: Every figure that was measured of the audio, with its limits.
    findings: tuple[Finding, ...] = ()

    @property
    def retry_after_s(self) -> float | None:
        """Seconds after which to repeat the call; None: repeating it cannot help."""
        return DEFAULT_RETRY_AFTER_S if self.retryable else None


class InvalidRequest(OrchestrionError):
    """The input cannot be used; `problems` lists each thing that is wrong with it."""

    code = "invalid-request"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{p.field}: {p.message} (got {p.value})" for p in self.problems))

    def __reduce__(self) -> tuple[type[InvalidRequest], tuple[tuple[Problem, ...]]]:
        # Exceptions pickle by their message; this one must cross processes with its problems.
        return (InvalidRequest, (self.problems,))

    @classmethod
    def of(cls, field: str, value: object, message: str) -> InvalidRequest:
        """One problem; `value` is shown shortened so that a huge input gives a small message."""
        return cls([Problem(field, shown(value), message)])


class NotFound(OrchestrionError):
    """What was asked for does not exist here."""

    code = "not-found"


class Withdrawn(OrchestrionError):
    """The track was taken down, for good."""

    code = "withdrawn"


class OnHold(OrchestrionError):
    """The track is made and stored, and given to nobody before a person has decided about it."""

    code = "on-hold"

    @classmethod
    def of(cls, track_id: str) -> OnHold:
        """Of one track."""
        return cls(f"{track_id} is made, and is given to nobody before a person has decided about it; ask again later")


class RightsRefused(OrchestrionError):
    """The licence of the weights does not allow the declared purpose."""

    code = "rights-refused"


class CheckFailed(OrchestrionError):
    """Rendered audio failed a gate. `findings` holds every measured figure with its limit."""

    code = "check-failed"

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("; ".join(f.describe() for f in self.findings if not f.passed))

    def __reduce__(self) -> tuple[type[CheckFailed], tuple[tuple[Finding, ...]]]:
        return (CheckFailed, (self.findings,))


class VerificationFailed(OrchestrionError):
    """Audio, record and signature do not belong together."""

    code = "verification-failed"


class ModelFailed(OrchestrionError):
    """The model could not turn this input into audio."""

    code = "model-failed"


class Internal(OrchestrionError):
    """Something broke that nobody foresaw. The message is for the caller; the log has the rest."""


class Transient(OrchestrionError):
    """The same call may succeed later."""

    retryable = True


class Overloaded(Transient):
    """No room now. `retry_after_s` is a forecast in seconds, at least 1."""

    code = "overloaded"

    def __init__(self, message: str, retry_after_s: float = DEFAULT_RETRY_AFTER_S) -> None:
        self._retry_after_s = max(1.0, retry_after_s)
        super().__init__(message)

    @property
    def retry_after_s(self) -> float:
        """Forecast, in seconds."""
        return self._retry_after_s

    def __reduce__(self) -> tuple[type[Overloaded], tuple[str, float]]:
        return (Overloaded, (str(self), self.retry_after_s))


class NotReady(Transient):
    """What the call needs is still starting, or was lost and is being replaced."""

    code = "not-ready"


class OutOfMemory(Transient):
    """There was no memory for this beside what else was being made."""

    code = "out-of-memory"


class Stalled(Transient):
    """The work made no progress for too long and was broken off."""

    code = "stalled"


class StoreUnavailable(Transient):
    """The object store did not answer, or what was read back is not what was written."""

    code = "store-unavailable"


#: The errors that a failure can be, in the order of the tree, and their codes.
KINDS: Final[tuple[type[OrchestrionError], ...]] = (
    InvalidRequest,
    NotFound,
    Withdrawn,
    OnHold,
    RightsRefused,
    CheckFailed,
    VerificationFailed,
    ModelFailed,
    Internal,
    Overloaded,
    NotReady,
    OutOfMemory,
    Stalled,
    StoreUnavailable,
)
CODES: Final = tuple(kind.code for kind in KINDS)


def code_of(error: OrchestrionError) -> str:
    """The code of the nearest class that `CODES` knows: a plug-in's own error has that of ours that it is one of."""
    known = (code for kind in type(error).__mro__ if (code := getattr(kind, "code", None)) in CODES)
    return next(known, OrchestrionError.code)


def as_ours(error: Exception) -> OrchestrionError:
    """What `error` means to the caller.

    An error of this project is itself. A lack of memory is `OutOfMemory`. Everything else is `Internal`, whose message
    shows nothing of the program's insides.
    """
    if isinstance(error, OrchestrionError):
        return error
    if is_lack_of_memory(error):
        return OutOfMemory("there was not enough memory to make this track; try again later, or ask for a shorter one")
    return Internal("something broke while this track was made; the operator's log says what")


def is_lack_of_memory(error: Exception) -> bool:
    """Whether the host or a device had no room. Torch's error is known by its name: nobody loads torch for it."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


SHOWN_CHARACTERS: Final = 80


class _Shortener(reprlib.Repr):
    """`repr` in bounded time and depth: an input may be an integer of a million digits or a list a thousand deep."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = SHOWN_CHARACTERS

    def repr_int(self, x: int, level: int) -> str:
        # Writing out an integer takes quadratic time, and above 4,300 digits Python refuses to.
        return repr(x) if x.bit_length() <= 4 * SHOWN_CHARACTERS else f"an integer of {x.bit_length()} bits"

    # What senders of JSON call them.
    def repr_NoneType(self, x: None, level: int) -> str:  # noqa: N802
        return "null"

    def repr_bool(self, x: bool, level: int) -> str:
        return "true" if x else "false"


_SHORTENER: Final = _Shortener()


def shown(value: object) -> str:
    """`value` as a message may carry it: quoted, in printable ASCII, about 80 characters whatever it is."""
    if isinstance(value, str) and len(value) > SHOWN_CHARACTERS:
        return ascii(value[:SHOWN_CHARACTERS])[:SHOWN_CHARACTERS] + f"... ({len(value)} characters)"
    text = ascii(value) if isinstance(value, str) else _SHORTENER.repr(value)
    text = text.encode("ascii", "backslashreplace").decode("ascii")
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."
