"""Numbers in figures and in words, and what they count: seconds, beats per minute, bars, hertz."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from orchestrion.tracks.intent.lexicon import Match
from orchestrion.tracks.intent.passage import Passage
from orchestrion.tracks.intent.text import FRACTIONS, Form

#: Figures of any length are at most that: beyond everything that can be asked for.
_MOST: Final = 1e15
_SECONDS: Final = {"second": 1.0, "minute": 60.0, "hour": 3600.0}
_MORE: Final = {"half_more": 0.5, "quarter_more": 0.25}
#: What a number in words may begin with.
_BEGINNINGS: Final = (("number", ()), ("unit", ()), ("amount", ("one",)), ("fraction", ("one_and_a_half",)))
#: What two bare numbers may be, so that they are a range of tempos.
_TEMPOS: Final = (40.0, 240.0)
_RANGE_SIGNS: Final = frozenset("-~")
#: Between a figure and how far from it is right as well.
_WITHIN: Final = frozenset({"±", "+/-", "+-"})
#: "About 90" is 81 to 99; "at least" is up to half as much again.
ABOUT: Final = 0.1
_AT_LEAST: Final = 1.5
_AT_MOST: Final = 0.5
#: How far "at least" and "at most" of one range may stand apart.
_BOUNDS_APART: Final = 4
#: A bare number below that beside minutes counts minutes, too.
_FEW: Final = 20
#: Of a unit that stands before its number, the letters: no abbreviation does.
_LEAST_UNIT: Final = 5
#: Units of one letter stand directly behind their figure.
_ONE_LETTER: Final = frozenset("mhk")


class Range:
    """A number, or a range of numbers; of figures that are not looked at, it is not known which."""

    __slots__ = ("_high", "_low", "_passage")

    def __init__(self, low: float, high: float, passage: Passage | None = None) -> None:
        """`passage`: whose figures these are, which is told when somebody looks at them."""
        self._low, self._high, self._passage = low, high, passage

    @property
    def low(self) -> float:
        """The number, or the beginning of the range."""
        if self._passage is not None:
            self._passage.looks_at_figures = True
        return self._low

    @property
    def high(self) -> float:
        """The number, or the end of the range."""
        if self._passage is not None:
            self._passage.looks_at_figures = True
        return self._high

    @property
    def is_number(self) -> bool:
        """Whether it is a single number, as all figures are."""
        return self._low == self._high


@dataclass(frozen=True, slots=True, eq=False)
class Amount:
    """A number or a range, what it counts, and the tokens that say so."""

    value: Range
    #: `second`, `bar`, `beat`, `bpm`, `hertz`, `lufs`; None: nothing is said.
    unit: str | None
    first: int
    after: int
    #: In figures, not in words.
    figures: bool = True
    #: The number itself, where "about", "at least" or "at most" makes a range of it, and which of them.
    exact: float | None = None
    bound: str | None = None

    @property
    def low(self) -> float:
        """The number, or the beginning of the range."""
        return self.value.low

    @property
    def high(self) -> float:
        """The number, or the end of the range."""
        return self.value.high

    @property
    def middle(self) -> float:
        """The number, or the middle of a range."""
        return round((self.low + self.high) / 2, 6)  # About 126 is 126, and no 126.00000000000001.

    @property
    def said(self) -> float:
        """The number that stands there, or the middle of a range."""
        return self.middle if self.exact is None else self.exact

    @property
    def span(self) -> tuple[int, int]:
        """Its tokens."""
        return self.first, self.after


def amounts(passage: Passage) -> list[Amount]:
    """All numbers of a prompt with their units, in order."""
    numbers = list(_numbers(passage))
    found: list[Amount] = []
    at = 0
    while at < len(numbers):
        number, used = _joined(passage, numbers, at)
        found.append(number)
        at += used
        while at < len(numbers) and numbers[at].first < number.after:
            # 半 of 两分半钟 is part of it.
            at += 1
    return _bounded(passage, [_qualified(passage, each) for each in _added(passage, found)])


def _numbers(passage: Passage) -> Iterator[Amount]:
    """Numbers without what they count."""
    tokens, at = passage.tokens, 0
    beginnings = {match.first for section, names in _BEGINNINGS for match in passage.of(section, *names)}
    while at < len(tokens):
        if at not in beginnings and tokens[at].form is not Form.NUMBER and tokens[at].text not in FRACTIONS:
            at += 1
            continue
        number = _clock(passage, at) or _marked(passage, at) or _figure(passage, at) or _in_words(passage, at)
        if number is None:
            at += 1
        else:
            yield number
            at = number.after


def _clock(passage: Passage, at: int) -> Amount | None:
    """A length as "1:30"; "10:30 pm" and "16:9" are none."""
    tokens = passage.tokens[at : at + 4]
    if len(tokens) < 3 or tokens[1].text != ":" or tokens[1].apart or tokens[2].apart:
        return None
    if at and passage.tokens[at - 1].text == ":" and not tokens[0].apart:
        return None
    minutes, seconds = passage.figures(at), passage.figures(at + 2)
    if not (minutes.isdecimal() and seconds.isdecimal() and len(minutes) <= 2 and len(seconds) == 2 and seconds < "60"):
        return None
    if len(tokens) > 3 and (tokens[3].text in ("am", "pm", "uhr") or (tokens[3].text == ":" and not tokens[3].apart)):
        return None
    length_s = 60.0 * int(minutes) + int(seconds)
    return Amount(_number(length_s), "second", at, at + 3)


def _marked(passage: Passage, at: int) -> Amount | None:
    """A length with the marks of minutes and seconds: 2'30", 3', 40"."""
    length_s, end = 0.0, at
    for mark, scale in (("'", 60.0), ('"', 1.0)):
        number, sign = passage.tokens[end : end + 2] if end + 2 <= len(passage.tokens) else (None, None)
        if number is None or sign is None or sign.apart or sign.text != mark:
            continue
        figures = passage.figures(end)
        if not figures.isdecimal():
            continue
        if mark == '"' and sum(token.text == mark for token in passage.tokens[:at]) % 2:
            continue  # The end of a quotation.
        if len(figures) > 3 or (number.apart and end > at):
            continue
        length_s, end = length_s + scale * int(figures), end + 2
    follows = end < len(passage.tokens) and not passage.tokens[end].apart and passage.tokens[end].form is Form.WORD
    return None if end == at or follows else Amount(_number(length_s), "second", at, end)


def _figure(passage: Passage, at: int) -> Amount | None:
    token = passage.tokens[at]
    following = passage.tokens[at + 1] if at + 1 < len(passage.tokens) else None
    if token.text in FRACTIONS:
        return Amount(_number(FRACTIONS[token.text]), None, at, at + 1)
    if token.form is not Form.NUMBER:
        return None
    value = _value(passage.text.exact[at].text)
    if value is None:
        return None
    if following is not None and following.text in FRACTIONS and not following.apart:
        return Amount(Range(mixed := value + FRACTIONS[following.text], mixed, passage), None, at, at + 2)
    if following is not None and following.text == "/" and at + 2 < len(passage.tokens):
        below = passage.tokens[at + 2]
        if passage.starting(at + 3, "unit") is not None:
            part = passage.figures(at + 2)
            if passage.figures(at) == "1" and part in ("2", "3", "4"):
                return Amount(_number(1 / int(part)), None, at, at + 3)
        if below.form is Form.NUMBER:
            return None
    if at and passage.tokens[at - 1].text == "/" and at > 1 and passage.tokens[at - 2].form is Form.NUMBER:
        return None
    more = passage.starting(at + 1, "fraction", "half_more", "quarter_more")
    if more is not None:
        value += _MORE[more.name]
        return Amount(Range(value, value, passage), None, at, more.after)
    return Amount(Range(value, value, passage), None, at, at + 1)


def _number(value: float) -> Range:
    return Range(value, value)


def _value(figures: str) -> float | None:
    """The number; None for what is none, as "1.2.3"."""
    parts = figures.replace(",", ".").split(".")
    if len(parts) > 2:
        return None
    if len(parts) == 2 and len(parts[1]) == 3 and parts[0] != "0":
        return min(float("".join(parts)), _MOST)
    return min(float(".".join(parts)), _MOST)


def _in_words(passage: Passage, at: int) -> Amount | None:
    """Numbers as "a hundred and eighty", "forty-five", "one and a half", "minuto y medio", 二十五."""
    unit = passage.starting(at, "unit", *_SECONDS)
    more = passage.starting(unit.after, "fraction", "half_more", "quarter_more") if unit is not None else None
    if unit is not None and more is not None:
        length_s = _SECONDS[unit.name] * (1 + _MORE[more.name])
        return Amount(_number(length_s), "second", at, more.after, figures=False)
    article = passage.starting(at, "amount", "one")
    if article is not None and passage.starting(at, "number") is None:
        is_unit = passage.starting(passage.skips(article.after, signs="-"), "unit", "second", "minute", "hour", "bar")
        if at and is_unit is not None and passage.starting(is_unit.first, "key") and _is_capital(passage, at):
            return None  # "In A min" is a key.
        return Amount(_number(1.0), None, at, article.after, figures=False) if is_unit is not None else None
    whole = passage.starting(at, "fraction", "one_and_a_half")
    if whole is not None:
        return Amount(_number(1.5), None, at, whole.after, figures=False)
    total, end, last, is_paired = 0.0, at, 0.0, False
    here = at
    while (match := passage.starting(here, "number")) is not None:
        behind = passage.starting(here, "amount") if end > at else None
        if behind is not None and behind.after > match.after:
            break  # The 사 of 사이 is no four.
        value = float(match.name)
        joins = _join(total, last, value, passage.tokens[here].form is Form.CHARACTER) if end > at else value
        if joins is None and end == at + 1 and _is_hundreds(passage, total, match):
            joins, is_paired = 100 * total + value, True
        if joins is None:
            break
        total, end, last = joins, match.after, value
        here = passage.skips(end, signs="-")
        link = passage.starting(here, "list", "and")
        # "One thirty and one forty" are two.
        if link is not None and not is_paired and passage.starting(link.after, "number") is not None and total >= 20:
            here = link.after
    if end == at:
        return None
    half = passage.starting(end, "fraction", "half_more", "quarter_more")
    if half is not None:
        total, end = total + _MORE[half.name], half.after
    return Amount(_number(total), None, at, end, figures=False)


def _is_capital(passage: Passage, at: int) -> bool:
    token = passage.tokens[at]
    return passage.text.original[token.start : token.end].isupper()


def _is_hundreds(passage: Passage, total: float, match: Match) -> bool:
    """Whether a small number before tens counts hundreds, as tempos are told in English: "one twenty-eight"."""
    if match.language != "en" or total not in (1, 2) or not 10 <= float(match.name) < 100:
        return False
    ones = passage.starting(passage.skips(match.after, signs="-"), "number")
    after = ones.after if ones is not None and float(ones.name) < 10 else match.after
    unit = passage.starting(passage.skips(after, signs="-"), "unit")
    return unit.name == "bpm" if unit is not None else passage.starting(after, "instrument") is None


def _join(total: float, last: float, value: float, is_character: bool) -> float | None:
    """What two words of a number make together: forty five, two hundred, 二 十; None if they are two numbers."""
    if value >= 100 and 0 < total < 100:
        return total * value
    if value == 10 and is_character:
        ones = total % 100
        return total - ones + 10 * ones if 0 < ones < 10 else total + 10 if ones == 0 else None
    if value < 10 and total >= 10 and total % 10 == 0:
        return total + value
    if value < 100 and total >= 100 and total % 100 == 0:
        return total + value
    return None


def _joined(passage: Passage, numbers: list[Amount], at: int) -> tuple[Amount, int]:
    """A number with its unit, or two as a range with theirs; and how many numbers that were."""
    one, used = _whole(passage, numbers, at)
    if at + used < len(numbers) and (joint := _range_joint(passage, one, numbers[at + used])):
        two, used_by_two = _whole(passage, numbers, at + used)
        if joint == "within":
            around = _around(one, two)
            return (around, used + used_by_two) if around is not None else (one, used)
        if joint == "sign" and one.unit == "second" and one.exact is not None and two.unit is None:
            # "Секунд 20-25": the unit stands before both.
            scale = one.exact / numbers[at].low if numbers[at].low else 1.0
            return Amount(
                Range(one.exact, two.high * scale), "second", one.first, two.after, one.figures
            ), used + used_by_two
        unit = two.unit or one.unit
        is_range = joint == "sign" or unit is not None or _is_framed(passage, one, two) or _is_clause(passage, one, two)
        if one.unit in (None, two.unit) and is_range:
            low, high = one.low, two.high
            if one.unit is None and two.unit == "second":
                scale = _SECONDS["minute"] if two.high > 60 else two.high / (numbers[at + used].high or two.high or 1)
                low = one.low * scale
            if 0 < low < high and joint != "or":
                before = passage.ending(one.first, "amount", "between")
                first = before.first if before else one.first
                return Amount(Range(low, high), unit, first, two.after, one.figures), used + used_by_two
            if joint == "or":
                return Amount(_number(low), unit, one.first, two.after, one.figures), used + used_by_two
    return one, used


def _whole(passage: Passage, numbers: list[Amount], at: int) -> tuple[Amount, int]:
    """A number with its unit, minutes together with the seconds right behind them; and how many numbers that were."""
    one, used = _with_unit(passage, numbers[at]), 1
    while at + used < len(numbers) and numbers[at + used].first < one.after:
        used += 1  # 半 of 两分半 is part of it.
    is_minutes = one.unit == "second" and one.value.is_number and one.low >= 60 and one.low % 60 == 0
    if is_minutes and at + used < len(numbers) and numbers[at + used].first == one.after:
        two = _with_unit(passage, numbers[at + used])
        if two.unit == "second" and two.value.is_number and two.low < 60 and numbers[at + used].low == two.low:
            return replace(one, value=_number(one.low + two.low), after=two.after), used + 1
    return one, used


def _is_framed(passage: Passage, one: Amount, two: Amount) -> bool:
    """Whether words around two bare numbers say that they are a range: "tempo between 90 and 110", 90から110の間."""
    filler = passage.starting(two.after, "filler")
    return (
        passage.ending(one.first, "tempo", "word") is not None
        or ((begin := passage.ending(one.first, "change", "from")) is not None and begin.length > 1)
        or passage.ending(one.first, "amount", "between") is not None
        or passage.starting(two.after, "amount", "between") is not None
        or (filler is not None and passage.starting(filler.after, "amount", "between") is not None)
    )


def _is_clause(passage: Passage, one: Amount, two: Amount) -> bool:
    """Whether two bare numbers that can be tempos are all of a clause: "seventy to eighty"."""
    low, high = _TEMPOS
    is_whole = passage.is_end_of_clause(one.first - 1) and passage.is_end_of_clause(two.after)
    return is_whole and low <= one.low < two.high <= high


def _around(one: Amount, two: Amount) -> Amount | None:
    """A figure and how far from it: "130 ± 5 bpm"."""
    if one.low <= two.low or one.unit not in (None, two.unit):
        return None
    low, high = one.low - two.low, one.low + two.low
    return Amount(Range(low, high), two.unit, one.first, two.after, one.figures)


def _range_joint(passage: Passage, one: Amount, two: Amount) -> str | None:
    gap = range(one.after, two.first)
    if "".join(passage.tokens[at].text for at in gap) in _WITHIN:
        return "within"
    if len(gap) == 1 and passage.tokens[gap[0]].text in _RANGE_SIGNS:
        return "sign"
    link = passage.starting(one.after, "amount", "to")
    if link is None or link.after != two.first:
        return None
    if (
        passage.starting(one.after, "list", "and") is not None
        and passage.ending(one.first, "amount", "between") is None
    ):
        return None
    return "or" if passage.starting(one.after, "list", "or") is not None else "word"


def _with_unit(passage: Passage, number: Amount) -> Amount:
    if number.unit is not None:
        return number
    within = None if number.figures else passage.starting(number.first, "unit", *_SECONDS)
    if within is not None and within.after == number.after:
        # One word: "полминуты", "zweiminütig".
        low = number.low * _SECONDS[within.name]
        return replace(number, value=_number(low), unit="second")
    at = passage.skips(number.after, signs="-" if number.figures else "-'")
    unit = passage.starting(at, "unit")
    if unit is None:
        return _behind_its_unit(passage, number)
    whole = passage.starting(number.first, "degree")
    if whole is not None and whole.after == unit.after:
        # 十分 is "very", not ten minutes.
        return number
    token = passage.tokens[at]
    if token.text in _ONE_LETTER and unit.length == 1 and (token.apart or not number.figures):
        return number
    is_letter = len(token.text) == 1 and token.form is Form.WORD and not token.text.isascii()
    if is_letter and token.apart and not passage.is_end_of_clause(unit.after):
        return number  # Russian "с" is "with" as well.
    if token.text == "s" and unit.length == 1 and (not token.apart and _is_decade(passage, number)):
        return number
    behind = passage.tokens[unit.after] if unit.after < len(passage.tokens) else None
    if token.text == "s" and behind is not None and behind.form is Form.NUMBER and not behind.apart:
        return number  # "4s3" is a name.
    if unit.name in _SECONDS:
        scale = _SECONDS[unit.name]
        more = passage.starting(unit.after, "fraction", *_MORE)
        sign = passage.tokens[unit.after].text if unit.after < len(passage.tokens) else ""
        after = more.after if more else unit.after + (sign in FRACTIONS)
        low = scale * (number.low + (_MORE[more.name] if more else FRACTIONS.get(sign, 0.0)))
        return replace(number, value=_number(low), unit="second", after=after)
    if unit.name == "kilohertz":
        return replace(number, value=Range(number.low * 1000, number.high * 1000), unit="hertz", after=unit.after)
    return replace(number, unit=unit.name, after=unit.after)


def _behind_its_unit(passage: Passage, number: Amount) -> Amount:
    """Lengths as Russian and Polish guess them: "минут пять", "минуты на две", "sekund trzydzieści"."""
    link = passage.ending(number.first, "amount", "one")
    unit = passage.ending(link.first if link else number.first, "unit", *_SECONDS)
    if unit is None or unit.language == "en" or len(passage.tokens[unit.first].text) < _LEAST_UNIT:
        return number
    if unit.first and (
        passage.tokens[unit.first - 1].form is Form.NUMBER or passage.ending(unit.first, "number") is not None
    ):
        return number
    if passage.starting(unit.first, "number") is not None:
        return number  # "Минута двадцать" is one minute and twenty seconds.
    value = number.low * _SECONDS[unit.name]
    low, high = value * (1 - ABOUT), value * (1 + ABOUT)
    return replace(number, value=Range(low, high), unit="second", first=unit.first, exact=value)


def _is_decade(passage: Passage, number: Amount) -> bool:
    """Whether it is "80s", "808s", "1990s" or "the 20s", and not a length."""
    before = passage.tokens[number.first - 1].text if number.first else ""
    value = number.low
    return (
        (value >= 50 and value % 10 == 0 and value < 100)
        or value == 808
        or value >= 1900
        or before in ("the", "roaring", "'")
    )


def _added(passage: Passage, found: list[Amount]) -> list[Amount]:
    """Minutes and the seconds behind them as one: "2 min 30 s", "1 minute and 30 seconds"."""
    sums: list[Amount] = []
    for each in found:
        last = sums[-1] if sums else None
        if last is not None and last.unit == "second" and last.low >= 60 and last.low % 60 == 0 and each.low < 60:
            gap = [passage.tokens[at].text for at in range(last.after, each.first)]
            gap = [] if gap == ["-"] else gap  # "A 3-minute-20-second song".
            link = passage.starting(last.after, "list", "and")
            near = not gap or (link is not None and link.after == each.first)
            glued = not passage.tokens[each.first].apart
            is_last = passage.is_end_of_clause(each.after)
            # "2 min e 20": of the seconds all figures are there.
            whole = each.low >= 10 and is_last and near
            bare = each.unit is None and each.figures and ((not gap and (glued or is_last)) or whole)
            # "Une minute trente de reggae", "un minuto e trenta".
            ends = not gap or is_last
            worded = each.unit is None and not each.figures and each.low >= 10 and ends
            if near and (each.unit == "second" or bare or worded) and last.value.is_number:
                both = Range(last.low + each.low, last.high + each.high)
                sums[-1] = replace(last, value=both, after=each.after)
                continue
        sums.append(each)
    return sums


def _in_one_unit(passage: Passage, one: Amount, two: Amount) -> tuple[Amount, Amount, bool]:
    """Two bounds, one without its unit: "over 100 but under 112 bpm"; and whether they are of one thing."""
    if one.unit == two.unit:
        return one, two, True
    if None not in (one.unit, two.unit):
        return one, two, False
    if two.unit is None and not (passage.is_end_of_clause(two.after) or passage.starting(two.after, "list")):
        return one, two, False
    told, bare = (two, one) if one.unit is None else (one, two)
    # "At least one and at most two minutes", "at most 40 seconds and not less than 30".
    in_minutes = told.unit == "second" and told.said % 60 == 0 and bare.said < _FEW
    scale = 60.0 if in_minutes else 1.0
    exact = None if bare.exact is None else bare.exact * scale
    bare = replace(bare, value=Range(bare.low * scale, bare.high * scale), exact=exact, unit=told.unit)
    return (bare, told, True) if one.unit is None else (told, bare, True)


def _bounded(passage: Passage, found: list[Amount]) -> list[Amount]:
    """Two bounds as one range: "at least one, at most two minutes"."""
    ranges: list[Amount] = []
    for each in found:
        last = ranges[-1] if ranges else None
        if last is not None and {each.bound, last.bound} == {"at_least", "at_most"}:
            one, two, is_one_thing = _in_one_unit(passage, last, each)
            least, most = (two, one) if two.bound == "at_least" else (one, two)
            if is_one_thing and least.said < most.said and two.first - one.after <= _BOUNDS_APART:
                both = Range(least.said, most.said)
                ranges[-1] = replace(one, value=both, after=two.after, exact=None, bound=None)
                continue
        ranges.append(each)
    return ranges


def _is_of_a_fade(passage: Passage, at: int) -> bool:
    return passage.ending(at, "fade") is not None


def _qualified(passage: Passage, amount: Amount) -> Amount:
    """With "about", "at least" and "at most"."""
    if not amount.value.is_number:
        return amount
    before = passage.skips(amount.first - 1, -1, signs="-") + 1
    for name, low, high in (
        ("at_most", _AT_MOST, 1.0),
        ("at_least", 1.0, _AT_LEAST),
        ("about", 1 - ABOUT, 1 + ABOUT),
    ):
        ahead = passage.ending(before, "amount", name)
        if ahead is not None and _is_of_a_fade(passage, ahead.first):
            continue  # "Fade in over four seconds" takes four.
        if ahead is not None and not any(
            other.first < ahead.first
            for bound in ("at_most", "at_least", "about")
            if (other := passage.ending(before, "amount", bound)) is not None
        ):
            around = Range(amount.low * low, amount.high * high)
            return replace(amount, value=around, first=ahead.first, exact=amount.low, bound=name)
        behind = passage.starting(passage.skips(amount.after, signs="-"), "amount", f"{name}_after")
        if behind is not None:
            around = Range(amount.low * low, amount.high * high)
            return replace(amount, value=around, after=behind.after, exact=amount.low, bound=name)
    return amount


def as_said(value: float) -> float:
    """The number, as an integer where it is one."""
    return int(value) if value == int(value) else value
