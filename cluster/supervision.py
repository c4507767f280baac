"""Whether a private Ray, and what it serves, is still alive; and the end of all its processes when it is not.

Ray's driver does not notice: after the death of raylet or GCS it waits for ever, with its port closed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import psutil

from orchestrion.clock import Clock

#: Children of the process that started Ray, without which its cluster is dead.
VITAL: Final = ("raylet", "gcs_server")
#: Serve starts a proxy or an ingress that died again, within about half a minute.
SILENCE_S: Final = 60.0
ASK_EVERY_S: Final = 5.0
LOOK_EVERY_S: Final = 1.0
END_S: Final = 10.0


@dataclass(slots=True)
class OwnProcesses:
    """All that descends from this process, also what a dead parent has left behind since."""

    _seen: set[psutil.Process] = field(default_factory=set)
    _vital: dict[str, psutil.Process] = field(default_factory=dict)

    def look(self) -> None:
        """Take note of who is there."""
        here = psutil.Process()
        self._seen |= set(here.children(recursive=True))
        self._seen = {process for process in self._seen if not _is_gone(process)}
        for child in here.children():
            with suppress(psutil.NoSuchProcess):
                if child.name() in VITAL:
                    self._vital.setdefault(child.name(), child)

    def what_died(self) -> str | None:
        """Look again, and name the vital processes that were there once and are not any more."""
        self.look()
        missing = sorted(name for name, process in self._vital.items() if _is_gone(process))
        return f"Ray's {' and '.join(missing)} died" if missing else None

    def end(self) -> None:
        """Kill all that are left, and wait until they are gone."""
        self.look()
        for process in self._seen:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        deadline_s = time.monotonic() + END_S
        while not all(map(_is_gone, self._seen)) and time.monotonic() < deadline_s:
            time.sleep(0.05)


def await_death(
    what_died: Callable[[], str | None],
    answers: Callable[[], bool],
    clock: Clock,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Return when the service is dead for good, and say of what.

    Args:
        what_died: what is missing that does not come back, if anything; asked every second.
        answers: whether the service answers; asked every five seconds.
        clock: for the durations.
        sleep: between questions.
    """
    ask_at_s = answered_at_s = clock.monotonic_s()
    while True:
        if died := what_died():
            return died
        if clock.monotonic_s() >= ask_at_s:
            if answers():
                answered_at_s = clock.monotonic_s()
            elif clock.monotonic_s() - answered_at_s >= SILENCE_S:
                return f"the service has not answered for {SILENCE_S:.0f} s"
            ask_at_s = clock.monotonic_s() + ASK_EVERY_S
        sleep(LOOK_EVERY_S)


def _is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
