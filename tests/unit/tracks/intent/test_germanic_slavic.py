"""What German, Dutch, Polish and Russian say in ways of their own: rules of the reader, not words of a file."""

import pytest

from orchestrion.tracks.intent.reader import read_intent


def values(prompt, field):
    return [reading.value for reading in read_intent(prompt).readings if reading.field == field]


@pytest.mark.parametrize(
    "prompt, key",
    [
        # B is B flat where the mode is said in German, Polish or Russian, and B where it is English.
        ("ein Stück in B-Dur mit Klavier", "Bb major"),
        ("ein Stück in H-Dur mit Klavier", "B major"),
        ("utwór w b-moll na organy", "Bb minor"),
        ("ein Stück mit Klavier, B major", "B major"),
        ("ein Walzer in es, langsam", "Eb major"),
        ("ein Walzer in Moll, langsam", "minor"),
        ("грустно, минор, 120", "minor"),
        ("ein Marsch, aber in Moll und nicht zu militärisch", "minor"),
        ("utwór a-moll na fortepian", "A minor"),
        ("пьеса, гармонический ми минор, для рояля", "E harmonic minor"),
    ],
)
def test_keys_have_the_names_of_their_language(prompt, key):
    assert values(prompt, "key") == [key]


def test_es_is_no_key_where_the_clause_goes_on():
    assert values("im Video gefällt es in es Café zu gehen", "key") == []


@pytest.mark.parametrize(
    "prompt, tempos, ends",
    [
        ("flott, aber nicht zu schnell, mit Klavier", [118], []),
        ("langsam, aber nicht zu langsam, mit Klavier", [80], []),
        ("spannend, von 100 auf 160 BPM, Streicher", [100], [160]),
        ("spannend, von 100 bis 160 BPM, Streicher", [130], []),
        ("feestje voor opa (80), accordeon", [], []),
        ("feestje voor opa, accordeon, 80", [80], []),
    ],
)
def test_tempos(prompt, tempos, ends):
    assert (values(prompt, "tempo_bpm"), values(prompt, "tempo_end_bpm")) == (tempos, ends)


@pytest.mark.parametrize(
    "prompt, length_s",
    [
        ("арфа, полминуты", 30),
        ("zweiminütiges Klavierstück", 120),
        ("музыка для видео, секунд 90", 90),
        ("арфа, минуты на две, тихо", 120),
        ("utwór na minut pięć, spokojny", 300),
        ("Klavierstück, drei Minuten, nein, vier", 240),
        ("2 минуты, 90 bpm, арфа", 120),
    ],
)
def test_lengths(prompt, length_s):
    assert values(prompt, "duration_s") == [length_s]


@pytest.mark.parametrize(
    "prompt, excluded",
    [
        ("zonder drums, bas of gedoe, piano", ["drums", "bass"]),
        ("zonder drums, met bas en piano", ["drums"]),
        ("ein Marsch in Moll und nicht zu militärisch", []),
        ("żadnych głośnych bębnów, fortepian", ["drums"]),
        ("nichts Trauriges, Jazz", ["sad"]),
        ("эпичный металл? нет: арфа", ["metal"]),
        ("🥁🚫 Klavier", ["drums"]),
    ],
)
def test_what_a_no_reaches(prompt, excluded):
    assert sorted(values(prompt, "exclude")) == sorted(excluded)


def test_quiet_after_a_refused_loud_is_quiet_once():
    readings = [
        reading for reading in read_intent("громко — нет. тихо, челеста").readings if reading.field == "dynamics"
    ]
    assert [(reading.value, reading.words.text) for reading in readings] == [("soft", "тихо")]


def test_mono_and_stereo_at_once_are_a_conflict():
    conflicts = read_intent("in mono én in stereo, accordeon").conflicts
    assert [(conflict.field, [words.text for words in conflict.words]) for conflict in conflicts] == [
        ("channels", ["in mono", "in stereo"])
    ]


def test_a_part_that_shall_be_missing_is_said():
    intent = read_intent("клубняк, 2:15, без дропа")
    assert [(one.kind, one.words.text) for one in intent.not_followed] == [("other", "без дропа")]


def test_stress_marks_and_letters_in_two_characters_are_read():
    assert values("меди́тация, арфа", "use") == ["meditation"]
    assert values("споко\u0438\u0306ная музыка", "mood") == ["calm"]


def test_about_sixteen_bars_are_sixteen():
    assert values("zapętl mi to, dubstep, około szesnaście taktów", "bars") == [16]


def test_a_fade_takes_the_number_right_behind_it():
    assert values("фейд-ин три секунды, фейд-аут пять, всего полминуты, арфа", "fade_out_s") == [5]


@pytest.mark.parametrize(
    "prompt, excluded",
    [
        # A clause behind a "no" adds to it.
        ("Geige raus, Bratsche auch, dafür Harfe", ["violin", "viola"]),
        ("Tuba weg, auch die Posaune. Polka", ["tuba", "trombone"]),
        ("de fluit eruit, de hobo ook, harp erbij", ["flute", "oboe"]),
        ("laat de viool weg en de cello ook. Soul", ["violin", "cello"]),
        ("skrzypce do kosza, flet też. Polka", ["violin", "flute"]),
        ("скрипки долой, флейта тоже, арфа", ["violin", "flute"]),
        ("Geige raus, Flöte geht auch", ["violin"]),
        # It is about who plays, not about how.
        ("фанк без солирующей трубы", ["trumpet"]),
        ("jazz bez solowego klarnetu", ["clarinet"]),
        # Another turns it round, or it is only allowed.
        ("Polka ohne Tuba geht nicht", []),
        ("blues zonder mondharmonica hoeft niet", []),
        ("polka, bez akordeonu ani rusz", []),
        ("танго, без баяна никуда", []),
        # An answer is about what was asked.
        ("Fluit? Liever kwijt. Chillwave", ["flute"]),
        # What stands before a colon is another thing.
        ("flet zamiast oboju, reszta bez zmian: wesoło", ["oboe"]),
        # Ways to say it.
        ("Finger weg von Geigen! Swing", ["violin"]),
        ("die Orgel muss draußen bleiben, Swing", ["organ"]),
        ("Swing, aber die Tuba bleibt heute zu Hause", ["tuba"]),
        ("Das Einzige, was wir nicht wollen, ist Reggae", ["reggae"]),
        ("reggae is niet mijn ding, liever jazz", ["reggae"]),
        ("handen af van de orgels, swing", ["organ"]),
        ("reggae to nie moja bajka, wolę jazz", ["reggae"]),
        ("łapy precz od organów, swing", ["organ"]),
        ("регги не моя тема, лучше джаз", ["reggae"]),
        ("руки прочь от органа, свинг", ["organ"]),
        ("swing, niemand die zingt", ["vocals"]),
        ("Swing, keiner singt", ["vocals"]),
    ],
)
def test_ways_to_say_no(prompt, excluded):
    assert sorted(values(prompt, "exclude")) == sorted(excluded)


@pytest.mark.parametrize(
    "prompt, tempo_bpm",
    [
        ("Marsch, Tempo hundertzwölf", 112),
        ("марш, скорость семьдесят два", 72),
        ("ruhiger Choral, Viertel = 72", 72),
        ("rustig koraal, kwart = 72", 72),
        ("ein Beat so um die hundertzehn, funky", 110),
        ("Beat im 92er Tempo", 92),
        ("irgendwo jenseits der 110, aber unter 120, House", 115),
        ("ergens boven de 110 maar onder de 120, house", 115),
        ("gdzieś powyżej 110, ale poniżej 120, house", 115),
        ("где-то выше 110, но ниже 120, хаус", 115),
        ("tempo sto dwa, nie: sto dwanaście. House", 112),
    ],
)
def test_tempos_in_other_words(prompt, tempo_bpm):
    assert values(prompt, "tempo_bpm") == [tempo_bpm]


@pytest.mark.parametrize(
    "prompt, begin, end",
    [
        ("fängt bei 88 an, hört bei 70 auf, Streicher", 88, 70),
        ("begint met 88, stopt bij 70, strijkers", 88, 70),
        ("startuje od 88, kończy na 70, smyczki", 88, 70),
        ("стартует на 88, финиширует на 70, струнные", 88, 70),
        ("postrock, van 80 tot 150 bpm in 2 min", 80, 150),
    ],
)
def test_where_a_tempo_begins_and_ends(prompt, begin, end):
    assert (values(prompt, "tempo_bpm"), values(prompt, "tempo_end_bpm")) == ([begin], [end])


@pytest.mark.parametrize(
    "prompt, length_s",
    [
        ("арфа, минута сорок", 100),
        ("harfa, minuta czterdzieści", 100),
        ("Harfe, 'ne Minute zwanzig", 80),
        ("арфа, 25 с", 25),
        ("Harfe, eine Viertelstunde", 900),
        ("harp, een kwartier", 900),
        ("harp, halve minuut", 30),
        ("harfa, kwadrans", 900),
        ("niet langer dan 50 seconden en niet korter dan 40, harp", 45),
        ("klankschalen, tien minuten, fade in", 600),
        ("арфа с оркестром, 60", None),
    ],
)
def test_lengths_in_other_words(prompt, length_s):
    assert values(prompt, "duration_s") == ([] if length_s is None else [length_s])


@pytest.mark.parametrize(
    "prompt, into, out",
    [
        ("ambient, wejście płynne 4 s, wyjście płynne 8 s", 4, 8),
        ("эмбиент, плавное начало 4 с, плавный конец 8 с", 4, 8),
        ("Harfe, blendet am Anfang 4 Sekunden ein, blendet über 8 Sekunden aus", 4, 8),
    ],
)
def test_fades_in_other_words(prompt, into, out):
    assert (values(prompt, "fade_in_s"), values(prompt, "fade_out_s")) == ([into], [out])


@pytest.mark.parametrize(
    "prompt, key, end",
    [
        ("Schlager in C, Rückung nach D im letzten Refrein", "C major", "D major"),
        ("levenslied, F, modulatie naar G bij het laatste refrein", "F major", "G major"),
        ("een toon omhoog, van C naar D", "C major", "D major"),
        ("o cały ton w górę, z F-dur do G-dur", "F major", "G major"),
        ("на тон выше, из фа мажора в соль мажор", "F major", "G major"),
    ],
)
def test_where_a_key_goes(prompt, key, end):
    assert (values(prompt, "key"), values(prompt, "key_end")) == ([key], [end])


@pytest.mark.parametrize(
    "prompt, key",
    [("countryballad, 72 bpm, G", ["G major"]), ("Form: A, B, A. Harfe", []), ("orgeltje, a-klein", ["A minor"])],
)
def test_a_letter_alone_is_a_key(prompt, key):
    assert (values(prompt, "key"), values(prompt, "energy")) == (key, [])


@pytest.mark.parametrize(
    "prompt, dynamics",
    [
        ("erst leise, dann laut, Harfe", ["crescendo"]),
        ("тихо в начале, громко в конце, арфа", ["crescendo"]),
        ("begin zacht, eindig keihard, harp", ["crescendo"]),
        ("najpierw głośno, potem cicho, harfa", ["diminuendo"]),
        ("ruhig laut, Harfe", ["loud"]),
    ],
)
def test_from_soft_to_loud(prompt, dynamics):
    intent = read_intent(prompt)
    assert ([r.value for r in intent.readings if r.field == "dynamics"], intent.conflicts) == (dynamics, ())


@pytest.mark.parametrize(
    "prompt, field",
    [
        ("Магазин «Вальс цветов», фоновая музыка, негромко", "style"),
        ('Zespół "Metalowe Wzgórze" prosi o kołysankę', "metal"),
        ("blijft vrolijk, mijn zoon heet Bas", "instruments"),
        ("Familie Horn feiert, fröhlich", "instruments"),
        ("Krimi ohne Happy End, Klavier", "exclude"),
        ("een uur in de file, geef mij maar jazz", "duration_s"),
    ],
)
def test_names_and_other_traps(prompt, field):
    assert field not in {reading.field for reading in read_intent(prompt).readings} | {
        str(reading.value) for reading in read_intent(prompt).readings
    }


@pytest.mark.parametrize(
    "prompt, kind, who",
    [
        ("Flöte, Harfe und sonst keiner", "only", ["flute", "harp"]),
        ("fluit en harp, verder niemand", "only", ["flute", "harp"]),
        ("хор без сопровождения, медленно", "a cappella", ["choir"]),
        ("koor, geen enkel instrument erbij", "a cappella", ["choir"]),
    ],
)
def test_nobody_else_plays(prompt, kind, who):
    found = values(prompt, "ensemble")
    assert [(one["kind"], sorted(one["instruments"])) for one in found] == [(kind, sorted(who))]


@pytest.mark.parametrize(
    "prompt",
    [
        "Rockballade mit einem Solo für E-Gitarre",
        "popnummer met een solo voor saxofoon",
        "рок с соло на гитаре",
        "rock z solówką na gitarze",
    ],
)
def test_a_solo_in_a_song_is_no_solo_piece(prompt):
    assert values(prompt, "ensemble") == []
    assert values(prompt, "instruments") != []


@pytest.mark.parametrize(
    "prompt, style",
    [
        ("ein Akkordeonwalzer", "waltz"),
        ("een accordeonwals", "waltz"),
        ("muzyka dawna na lutnię", "renaissance"),
        ("Хардбасс для вечеринки", "hardbass"),
        ("trojak na skrzypce", "trojak"),
        ("indietronic, 100 bpm", "indietronica"),
        ("drum-'n-bass, zonder zang", "drum-and-bass"),
    ],
)
def test_kinds_of_music(prompt, style):
    assert style in [value["genre"] if isinstance(value, dict) else value for value in values(prompt, "style")]


@pytest.mark.parametrize(
    "prompt, key, end",
    [
        ("Ballade in Dur, kippt am Ende nach Moll", "major", "minor"),
        ("utwór w moll, który przechodzi w dur, lutnia", "minor", "major"),
        ("endet in D-Dur, beginnt in h-Moll, Viola", "B minor", "D major"),
        ("заканчивается в ре мажоре, начинается в си миноре, альт", "B minor", "D major"),
    ],
)
def test_how_a_key_ends(prompt, key, end):
    assert (values(prompt, "key"), values(prompt, "key_end")) == ([key], [end])


@pytest.mark.parametrize(
    "prompt",
    [
        "von sehr langsam bis sehr schnell, Zither",
        "eerst heel langzaam, daarna heel snel, harp",
        "od bardzo wolno do bardzo szybko, cytra",
        "от очень медленного до очень быстрого, цитра",
    ],
)
def test_from_slow_to_fast_in_words(prompt):
    assert (values(prompt, "tempo_bpm"), values(prompt, "tempo_end_bpm"), read_intent(prompt).conflicts) == (
        [52],
        [172],
        (),
    )


@pytest.mark.parametrize(
    "prompt, field, value",
    [
        ("ein Tick schneller als 96, Salsa", "tempo_bpm", 96),
        ("чуть больше трёх минут, арфа", "duration_s", 180),
        ("ciut ponad trzy minuty, harfa", "duration_s", 180),
        ("секунд 30-40, труба", "duration_s", 35),
    ],
)
def test_a_little_more(prompt, field, value):
    assert values(prompt, field) == [value]


@pytest.mark.parametrize(
    "prompt, ensemble",
    [
        ("Streicher nur im Refrain, Soul", []),
        ("strijkers alleen in het refrein, soul", []),
        ("smyczki tylko w refrenie, soul", []),
        ("струнные только в припеве, соул", []),
        ("wir sind ein Duo, Laute und Viola", [{"kind": "duo", "instruments": ["lute", "viola"]}]),
        ("flet i obój, duet", [{"kind": "duo", "instruments": ["flute", "oboe"]}]),
    ],
)
def test_who_plays_and_when(prompt, ensemble):
    assert values(prompt, "ensemble") == ensemble


@pytest.mark.parametrize(
    "prompt, field",
    [
        ("успели в последнюю минуту, погоня, литавры", "duration_s"),
        ("ostatnia minuta meczu, kotły", "duration_s"),
        ("A, B und C sind Vereine, wir brauchen neutrale Musik", "key"),
    ],
)
def test_what_only_looks_like_a_figure_or_a_key(prompt, field):
    assert values(prompt, field) == []
