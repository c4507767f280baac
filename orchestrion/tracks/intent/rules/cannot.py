"""What is asked and cannot be had: artists, sung words, voices, languages, sounds, and texts about something else."""

from __future__ import annotations

from functools import cached_property
from typing import Final

from orchestrion.tracks.intent.lexicon import Match
from orchestrion.tracks.intent.passage import runs
from orchestrion.tracks.intent.rules.findings import Findings, Span
from orchestrion.tracks.intent.rules.negations import Negations
from orchestrion.tracks.intent.text import COMMAS, STOPS, Form, is_hangul

_WHY: Final = {
    "artist": "artists are not imitated; say what the music is like",
    "lyrics": "no words are sung; the music is instrumental",
    "vocals": "there are no singers; ask for a choir or a melody instrument",
    "language": "no words are sung, in any language",
    "other": "this is no part of what the models play",
    "part": "a part cannot be left out; name the sections that there shall be",
    "nothing": "these words say nothing about music that is known here; name a style, a mood or instruments",
}
#: Of an artist's name, at most.
_NAME: Final = 4
_LYRICS: Final = 8
#: Sections of which single characters are parts of names; in Korean, single syllables of these as well.
_IN_NAMES: Final = frozenset({"number", "tonic", "unit", "fraction", "amount"})
_IN_KOREAN_NAMES: Final = frozenset({"function", "filler", "list", "degree", "key"})
#: "Of" in Chinese and Japanese.
_OF: Final = frozenset("的の")
#: Endings of Korean verbs before a noun: 걷는 느낌.
_VERBAL: Final = frozenset("는던")
#: Of a name in Korean, in syllables.
_SHORTEST: Final = 2


class Cannot:
    """Reads what cannot be followed."""

    def __init__(self, findings: Findings, negations: Negations) -> None:
        self._findings = findings
        self._passage = findings.passage
        self._negations = negations

    def read_early(self) -> None:
        """What would else be taken for something that can be had: names, sounds."""
        for match in self._passage.of("cannot", "other"):
            self._findings.refuse("other", _WHY["other"], match.span)
        self._artists()

    def read_late(self) -> None:
        """What is sung, parts that shall be missing, and a text of which nothing was understood."""
        self._sung()
        for match in self._passage.of("section"):
            if match.name != "then" and self._negations.negates(match):
                self._findings.refuse("other", _WHY["part"], self._negations.whole(match))
        weak = {"tempo_bpm", "use", "mood"}
        surely = [reading for reading in self._findings.readings if reading.field not in weak or reading.sure > 0.6]
        if not surely and not self._findings.not_followed and not self._findings.conflicts and self._passage.tokens:
            self._findings.readings.clear()
            self._findings.refuse("other", _WHY["nothing"], (0, len(self._passage.tokens)))

    def _artists(self) -> None:
        passage = self._passage
        for name in passage.of("artist"):
            first, after = name.span
            while (before := passage.ending(first, "cannot", "artist_before")) or (
                first < name.first and (before := passage.ending(first, "filler"))
            ):
                first = before.first
            behind = passage.starting(passage.skips(after, signs="-"), "cannot", "artist_after")
            if self._findings.is_free(name.span):
                self._findings.refuse("artist", _WHY["artist"], (first, behind.after if behind else after))
        for match in self._passage.of("cannot", "artist_before"):
            end = self._name_after(match.after)
            if end > match.after and self._findings.is_free((match.first, end)):
                self._findings.refuse("artist", _WHY["artist"], (match.first, end))
        for match in self._passage.of("cannot", "artist_after"):
            begin = self._name_before(match.first)
            if begin < match.first and self._findings.is_free((begin, match.after)):
                self._findings.refuse("artist", _WHY["artist"], (begin, match.after))

    def _name_after(self, at: int) -> int:
        """Behind the words with capitals that follow and mean nothing else."""
        while (filler := self._passage.starting(at, "filler")) is not None:
            at = filler.after
        end = at
        while end < len(self._passage.tokens) and end - at < _NAME and self._is_name(end):
            end += 1
        return end if end > at else -1

    def _name_before(self, at: int) -> int:
        if at and is_hangul(self._passage.tokens[at - 1].text):
            return self._korean_name_before(at)
        begin = at
        longest = _NAME if not at or self._passage.tokens[at - 1].form is Form.WORD else 8
        while begin > 0 and at - begin < longest and self._is_name(begin - 1):
            begin -= 1
        # 春天的溪流那样的, 嵐の前みたいな: what is something's is nobody's name.
        is_part = begin > 0 and begin < at and self._passage.tokens[begin - 1].text in _OF
        return at if is_part else begin

    def _korean_name_before(self, at: int) -> int:
        """A word of two syllables or more of which some mean nothing: 아이유. Particles are written onto words."""
        begin = at - 1
        while begin > 0 and not self._passage.tokens[begin].apart and is_hangul(self._passage.tokens[begin - 1].text):
            begin -= 1
        if self._passage.tokens[at - 1].text in _VERBAL:
            return at
        syllables = range(begin, at)
        means_something = any(
            match.section not in _IN_NAMES | _IN_KOREAN_NAMES and match.first < at and begin < match.after
            for match in self._passage.matches
        )
        is_known = self._passage.covered.issuperset(syllables)
        return at if len(syllables) < _SHORTEST or means_something or is_known else begin

    def _is_name(self, at: int) -> bool:
        token, original = self._passage.tokens[at], self._passage.text.original
        if token.form is Form.WORD:
            known = any(
                match.first <= at < match.after
                for section in ("style", "genre", "instrument", "mood", "use", "key")
                for match in self._passage.of(section)
            )
            return original[token.start].isupper() and not known
        if token.form is Form.CHARACTER:
            # Particles and verbs are in hiragana, names hardly ever; numbers (一) and notes (ハ) are in names as well.
            return at not in self._words_of_content and not "\u3040" <= token.text <= "\u309f"
        return False

    @cached_property
    def _words_of_content(self) -> frozenset[int]:
        """Tokens of phrases that mean something, so that they are no part of a name in a script without capitals."""
        return frozenset(
            at
            for match in self._passage.matches
            if match.section not in _IN_NAMES
            for at in range(match.first, match.after)
        )

    def _sung(self) -> None:
        passage = self._passage
        lyrics = [m for m in passage.of("cannot", "lyrics") if self._is_asked(m)]
        voices = [m for m in passage.of("cannot", "voice") if self._is_asked(m)]
        for match in lyrics:
            self._findings.refuse("lyrics", _WHY["lyrics"], (match.first, self._lyrics_end(match.after)))
        for match in voices:
            self._findings.refuse("vocals", _WHY["vocals"], match.span)
        for match in passage.of("cannot", "language"):
            sung_in = passage.ending(match.first, "cannot", "sung_in")
            # "拉丁文" is a language wherever it stands; "Italian" is often no more than a flavour.
            alone = passage.tokens[match.first].form is Form.CHARACTER and (
                passage.is_end_of_clause(match.first - 1) and passage.is_end_of_clause(match.after)
            )
            if sung_in is not None or lyrics or voices or alone:
                self._findings.refuse(
                    "language", _WHY["language"], (sung_in.first if sung_in else match.first, match.after)
                )
            if sung_in is not None:
                # Sung "in Latin" is no Latin music.
                same = ("style", self._findings.words(match.span))
                self._findings.readings = [each for each in self._findings.readings if (each.field, each.words) != same]

    def _lyrics_end(self, at: int) -> int:
        """Where words that are to be sung end: with their quotation marks, or with the clause."""
        quoted = self._passage.starting(self._passage.skips(at, signs=":"), "nothing", "phrases")
        is_quoted = quoted is not None and self._passage.tokens[quoted.first].form is Form.SYMBOL
        return quoted.after if quoted is not None and is_quoted else self._clause_end(at)

    def _is_asked(self, match: Match) -> bool:
        """Whether it is wanted: what is excluded is not there anyway."""
        if self._negations.negates(match) or self._is_counted(match):
            return False
        same = [m for m in self._passage.of("instrument") if m.first < match.after and match.first < m.after]
        return not any(self._negations.negates(m) for m in same) and not self._excluded(match)

    def _is_counted(self, match: Match) -> bool:
        """Whether it is a part of a length: the "mezzo" of "un minuto e mezzo"."""
        start = self._passage.tokens[match.first].start
        lengths = [reading.words for reading in self._findings.readings if reading.field == "duration_s"]
        return any(words.start <= start < words.end for words in lengths)

    def _excluded(self, match: Match) -> bool:
        start = self._passage.tokens[match.first].start
        return any(
            reading.field == "exclude" and reading.words.start <= start < reading.words.end
            for reading in self._findings.readings
        )

    def _clause_end(self, at: int) -> int:
        end = at
        while (
            end < len(self._passage.tokens)
            and end - at < _LYRICS
            and self._passage.tokens[end].text not in STOPS | COMMAS
        ):
            end += 1
        return end


def not_understood(findings: Findings) -> list[Span]:
    """Runs of words that no phrase has and that say nothing."""
    covered = findings.passage.covered | findings.used
    loose = [at for at in range(len(findings.passage.tokens)) if at not in covered]
    return list(runs(loose))
