"""Amounts of which nobody has said yet what they are for."""

from __future__ import annotations

from orchestrion.tracks.intent.rules.amounts import Amount
from orchestrion.tracks.intent.rules.findings import Findings


class UnreadAmounts:
    """The amounts of a prompt whose words are free: whoever reads one takes it away from the others."""

    def __init__(self, amounts: list[Amount], findings: Findings) -> None:
        self._amounts = amounts
        self._findings = findings
        self._passage = findings.passage

    def of(self, *units: str | None) -> list[Amount]:
        """Those that count one of these; None is for those that do not say what."""
        return [each for each in self._amounts if each.unit in units and self._findings.is_free(each.span)]

    def behind_a_no(self, after: int) -> Amount | None:
        """The number behind a "no" and a comma: "96 bpm … no, 88"."""
        for each in self.of(None):
            at = self._passage.skips(each.first - 1, -1, signs=",-:") + 1
            no = self._passage.ending(at, "negation", "before")
            if at < each.first and no is not None and after <= no.first and self._passage.is_end_of_clause(each.after):
                return each
        return None

    def behind_correction(self, after: int) -> Amount | None:
        """A number without a unit right behind a correction of what stands before a token."""
        for each in self.of(None):
            correction = self._passage.ending(
                self._passage.skips(each.first - 1, -1, signs=",-.:") + 1, "change", "correction"
            )
            if correction is not None and after <= correction.first:
                return each
        return None
