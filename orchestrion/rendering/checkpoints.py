"""What is kept of unfinished pieces while they are made, so that another process can make the rest."""

from __future__ import annotations

import logging
from typing import Final, Protocol

from orchestrion.rendering.task import Task
from orchestrion.resilience.store_retry import Retry

logger = logging.getLogger(__name__)

#: What has been made of a piece is kept so often, where its model can go on from it: what a sudden death may cost.
KEEP_EVERY_S: Final = 15.0


class Checkpoints(Protocol):
    """Where unfinished pieces are kept for the process that makes the rest."""

    def partial(self, track_id: str, /) -> bytes | None: ...  # noqa: D102
    def keep_partial(self, track_id: str, checkpoint: bytes, /) -> None: ...  # noqa: D102
    def drop_partial(self, track_id: str, /) -> None: ...  # noqa: D102


class Keeper:
    """An executor's way with checkpoints. What goes wrong with them is logged, and costs no track."""

    def __init__(self, checkpoints: Checkpoints | None) -> None:
        self._checkpoints = checkpoints

    def find(self, task: Task, retrying: Retry) -> bytes | None:
        """What an earlier process kept of a task. Only models with shared steps keep parts of a piece."""
        if self._checkpoints is None or not task.shares_steps:
            return None
        checkpoints = self._checkpoints
        return retrying(lambda: checkpoints.partial(task.track_id))

    def keep_if_due(self, task: Task, now_s: float) -> None:
        """Keep what there is of an open piece every `KEEP_EVERY_S`."""
        if now_s - task.kept_at_s >= KEEP_EVERY_S:
            self.keep(task, now_s)

    def keep(self, task: Task, now_s: float) -> bool:
        """Keep what there is of an open piece; whether there is anything, and it could be kept."""
        if self._checkpoints is None:
            return False
        task.kept_at_s = now_s
        try:
            checkpoint = task.opened.checkpoint()
            if checkpoint is None:
                return False
            self._checkpoints.keep_partial(task.track_id, checkpoint)
        except Exception:
            logger.warning("%s: what was made of it could not be kept", task.track_id, exc_info=True)
            return False
        task.is_kept = True
        return True

    def forget(self, task: Task, retrying: Retry) -> None:
        """Drop the parts of a piece that is whole now."""
        if self._checkpoints is None or not task.is_kept:
            return
        checkpoints = self._checkpoints
        try:
            retrying(lambda: checkpoints.drop_partial(task.track_id))
        except Exception:
            # It does no harm: the track is there, and its parts are not looked for any more.
            logger.warning("%s: its partial piece could not be deleted", task.track_id, exc_info=True)
