"""What is understood in Spanish, Portuguese, French and Italian: each kind of thing, in the order of words of each."""

import pytest

from orchestrion.tracks.intent.reader import read_intent


def values(prompt, field):
    return [reading.value for reading in read_intent(prompt).readings if reading.field == field]


@pytest.mark.parametrize(
    "prompt, field, expected",
    [
        ("bolero, minuto y medio", "duration_s", [90]),
        ("boleros, dos minutos y cuarto", "duration_s", [135]),
        ("jazz, um minuto e meio", "duration_s", [90]),
        ("un quart d'heure de relaxation", "duration_s", [900]),
        ("reggae, 2 minutes ½", "duration_s", [150]),
        ("valse, 1 min 30", "duration_s", [90]),
        ("une minute trente de reggae", "duration_s", [90]),
        ("due minuti e mezzo di jazz", "duration_s", [150]),
        ("jazz, 2'30\"", "duration_s", [150]),
        ('jazz, 40"', "duration_s", [40]),
        ("ventidue secondi di swing", "duration_s", [22]),
        ("quatre-vingt-dix-sept secondes de jazz", "duration_s", [97]),
        ("menos de un minuto de techno", "duration_s", [45]),
        ("bachata a ciento veintiocho", "tempo_bpm", [128]),
        ("techno a centotrentacinque bpm", "tempo_bpm", [135]),
        ("techno à cent trente-cinq bpm", "tempo_bpm", [135]),
        ("techno a cento e trinta bpm", "tempo_bpm", [130]),
        ("bolero, 92 negras por minuto", "tempo_bpm", [92]),
        ("ni trop lent ni trop rapide", "tempo_bpm", [104]),
        ("non troppo veloce, né triste né allegra", "tempo_bpm", [96]),
        ("no muy lento, piano", "tempo_bpm", [90]),
        ("rallentando alla fine fino a 60 bpm, parte da 100", "tempo_bpm", [100]),
        ("rallentando alla fine fino a 60 bpm, parte da 100", "tempo_end_bpm", [60]),
        ("chorinho que acelera no fim", "tempo_end_bpm", [144]),
        ("un disco lento y grave", "tempo_bpm", [70]),
        ("jota aragonesa en la, con bandurria", "key", ["A major"]),
        ("tono de fa sostenido menor", "key", ["F# minor"]),
        ("fa dièse dorien", "key", ["F# dorian"]),
        ("escala menor harmônica de mi, oud", "key", ["E harmonic minor"]),
        ("modulazione da do minore a do maggiore", "key", ["C minor"]),
        ("modulazione da do minore a do maggiore", "key_end", ["C major"]),
        ("começa em lá menor e termina em lá maior", "key_end", ["A major"]),
        ("de do mayor a la menor", "key_end", ["A minor"]),
        ("La menor duda: ¿hay flamenco?", "key", []),
        ("mambo, 3/4 da turma tem mais de 70 anos", "metre", []),
        ("tempo di valzer, fisarmonica", "style", ["waltz"]),
        ("un solo compás de samba", "bars", [1]),
        ("un solo compás de samba", "ensemble", []),
        ("fundido de entrada de 6 segundos y de salida de 10", "fade_in_s", [6]),
        ("fundido de entrada de 6 segundos y de salida de 10", "fade_out_s", [10]),
        ("un fade out de tres segundos", "fade_out_s", [3]),
    ],
)
def test_what_can_be_counted(prompt, field, expected):
    assert (
        values(prompt, field) == pytest.approx(expected) if field.endswith("_s") else values(prompt, field) == expected
    )


@pytest.mark.parametrize(
    "prompt, sections",
    [
        (
            "intro de 15 segundos, luego estrofa de 30 s y estribillo de 8 compases",
            [{"name": "intro", "duration_s": 15}, {"name": "verse", "duration_s": 30}, {"name": "chorus", "bars": 8}],
        ),
        (
            "introdução de 10s, parte A de 16 compassos, final de 5 s",
            [{"name": "intro", "duration_s": 10}, {"name": "part a", "bars": 16}, {"name": "outro", "duration_s": 5}],
        ),
        (
            "8 mesures d'intro, 16 mesures de couplet",
            [{"name": "intro", "bars": 8}, {"name": "verse", "bars": 16}],
        ),
    ],
)
def test_sections_stand_before_their_lengths_or_behind(prompt, sections):
    assert values(prompt, "sections") == [sections]


@pytest.mark.parametrize(
    "prompt, excluded",
    [
        ("sin batería ni bajo", {"drums", "bass"}),
        ("SEM bateria, SEM baixo", {"drums", "bass"}),
        ("pas de voix, pas de batterie", {"vocals", "drums"}),
        ("niente voci, niente batteria", {"vocals", "drums"}),
        ("metales no, cuerdas sí", {"brass"}),
        ("metais? não, metal! guitarras pesadas", {"brass"}),
        ("tudo menos sertanejo", {"sertanejo"}),
        ("tout sauf du rap", {"hip-hop"}),
        ("nem alegre nem triste", {"happy", "sad"}),
        ("choro no bandolim", set()),
        ("no más de treinta segundos de techno", set()),
        ("mi maior não: fá maior, crescendo sempre", set()),
        ("que no falte la guitarra", set()),
        ("la batterie de mon portable est à plat, un blues", set()),
        ("più o meno un minuto di jazz", set()),
    ],
)
def test_what_is_unwanted(prompt, excluded):
    assert set(values(prompt, "exclude")) == excluded


@pytest.mark.parametrize(
    "prompt, kind, players",
    [
        ("violoncelle seul", "solo", ["cello"]),
        ("chitarra sola, dolce", "solo", ["guitar"]),
        ("violín solo", "solo", ["violin"]),
        ("solo cajón y palmas", "only", ["cajon", "claps"]),
        ("solo nacchere e battito di mani", "only", ["castanets", "claps"]),
        ("rien que du piano", "only", ["piano"]),
        ("archi e basta", "only", ["strings"]),
        ("dueto de flauta e fagote", "duo", ["flute", "bassoon"]),
        ("quatuor à cordes", "quartet", ["strings"]),
        ("trio batterie-contrebasse-piano", "trio", ["drums", "double bass", "piano"]),
    ],
)
def test_who_plays(prompt, kind, players):
    assert values(prompt, "ensemble") == [{"kind": kind, "instruments": players}]


def test_who_is_wanted_and_unwanted_is_a_conflict():
    assert [conflict.field for conflict in read_intent("con batería y sin batería, merengue").conflicts] == ["exclude"]


@pytest.mark.parametrize(
    "prompt, genre",
    [
        ("bachata sensual", "bachata"),
        ("balada em dó menor", "ballad"),
        ("gavotte et bombarde", "breton gavotte"),
        ("pizzica veloce", "pizzica"),
    ],
)
def test_genres_have_names_of_their_own(prompt, genre):
    assert values(prompt, "style")[0]["genre"] == genre


@pytest.mark.parametrize(
    "prompt, kind",
    [
        ("algo como Rosalía", "artist"),
        ("nello stile di Ennio Morricone", "artist"),
        ("cantada en francés", "language"),
        ("avec une voix de femme", "vocals"),
        ("com letra que fale de saudade", "lyrics"),
        ("lofi avec craquements de vinyle", "other"),
        ("kora, sans tempo fixe", "other"),
    ],
)
def test_what_cannot_be_had_is_said(prompt, kind):
    assert kind in {one.kind for one in read_intent(prompt).not_followed}


@pytest.mark.parametrize(
    "prompt, language",
    [
        ("canción tranquila para dormir", "es"),
        ("música calma para dormir", "pt"),
        ("musique calme pour dormir", "fr"),
        ("musica calma per dormire", "it"),
    ],
)
def test_sister_languages_are_told_apart(prompt, language):
    assert read_intent(prompt).languages[0] == language


@pytest.mark.parametrize(
    "prompt, instruments",
    [
        ("coral e piano", ["choir", "piano"]),
        ("oboe e piano ad alto volume", ["oboe", "piano"]),
        ("bombarde et biniou", ["bombarde", "binioù"]),
    ],
)
def test_words_mean_what_they_mean_in_the_language_of_the_prompt(prompt, instruments):
    assert values(prompt, "instruments") == instruments
    assert values(prompt, "use") == []


@pytest.mark.parametrize(
    "prompt, instruments",
    [
        ("trombón y flautín", ["trombone", "piccolo"]),
        ("corne inglês e escaleta", ["english horn", "melodica"]),
        ("cor anglais et steel drum", ["english horn", "steel drums"]),
        ("ottavino, liuto e clavinet", ["piccolo", "lute", "clavinet"]),
    ],
)
def test_instruments_that_english_needs_no_words_for(prompt, instruments):
    assert values(prompt, "instruments") == instruments


def test_a_verb_that_takes_away_excludes_what_follows_its_article():
    assert values("tira a bateria e o baixo", "exclude") == ["drums", "bass"]


@pytest.mark.parametrize(
    "prompt, unwanted",
    [
        ("swing, no me vengas con tubas", {"tuba"}),
        ("swing, mantén lejos las tubas", {"tuba"}),
        ("tubas ni regaladas, swing", {"tuba"}),
        ("swing, de tubas ni rastro", {"tuba"}),
        ("swing, inutile d'ajouter une harpe", {"harp"}),
        ("swing, pas question de mettre une harpe", {"harp"}),
        ("swing, adieu les harpes", {"harp"}),
        ("swing, gardez la harpe à l'écart", {"harp"}),
        ("di tube neanche l'ombra, swing", {"tuba"}),
        ("tuba? da evitare. swing", {"tuba"}),
        ("swing, tenete lontane le arpe", {"harp"}),
        ("sem chance de tuba, swing", {"tuba"}),
        ("swing, a última coisa que quero é tuba", {"tuba"}),
        ("swing, mantenha a tuba longe", {"tuba"}),
        ("swing em ré menor, não, fá menor", set()),
        ("swing, que no le falte la tuba", set()),
    ],
)
def test_more_ways_to_say_no(prompt, unwanted):
    assert set(values(prompt, "exclude")) == unwanted


@pytest.mark.parametrize(
    "prompt, begins, ends",
    [
        ("empieza lento y acaba rápido, tuba", [70], [144]),
        ("commence lentement et finit à fond de train, tuba", [70], [172]),
        ("empieza lento y acaba muy rápido, 175, tuba", [70], [175]),
        ("inizia lento e finisce veloce, tuba", [70], [144]),
        ("começa devagar e termina rápido, tuba", [70], [144]),
        ("swing, abre a 100, cierra a 150", [100], [150]),
        ("swing, 100 au début, 150 à la fin", [100], [150]),
        ("swing, all'inizio 100 bpm, alla fine 150", [100], [150]),
        ("swing, no início 100 bpm, no fim 150", [100], [150]),
        ("swing, por encima de 100 pero por debajo de 120 bpm", [110], []),
        ("swing, oltre i 100 bpm ma non più di 120", [110], []),
        ("swing, plus de 100 bpm mais moins de 120", [110], []),
        ("swing, acima de 100 mas abaixo de 120 bpm", [110], []),
    ],
)
def test_tempos_that_change_or_have_two_bounds(prompt, begins, ends):
    assert (values(prompt, "tempo_bpm"), values(prompt, "tempo_end_bpm")) == (begins, ends)


@pytest.mark.parametrize(
    "prompt, key, end",
    [
        ("vals en fa mayor que sube un tono a sol mayor", "F major", "G major"),
        ("valse en fa majeur, dernier refrain un ton au-dessus en sol", "F major", "G major"),
        ("valzer in fa, ultimo ritornello un tono sopra in sol", "F major", "G major"),
        ("valsa, primeira metade em ré menor, segunda em fá maior", "D minor", "F major"),
        ("valse en mib majeur", "Eb major", None),
        ("valzer in mi b maggiore", "Eb major", None),
        ("valzer in REm, pianoforte", "D minor", None),
        ("valsa em ré menor, não, fá menor", "F minor", None),
    ],
)
def test_where_a_key_changes_to(prompt, key, end):
    assert (values(prompt, "key"), values(prompt, "key_end")) == ([key], [end] if end else [])


@pytest.mark.parametrize(
    "prompt, field, expected",
    [
        ("swing, fade finale lunghissimo (11 sec)", "fade_out_s", [11]),
        ("swing, fundido de entrada y salida de 4 segundos", "fade_in_s", [4]),
        ("swing, fundido de entrada y salida de 4 segundos", "fade_out_s", [4]),
        ("swing, aparece de a poco en 5 segundos", "fade_in_s", [5]),
        ("swing, some aos poucos nos últimos 9 segundos", "fade_out_s", [9]),
        ("swing, 3 bonnes minutes", "duration_s", [180]),
        ("swing, dos minutejos y ya", "duration_s", [120]),
        ("swing, um quarto de hora não: 40 segundos", "duration_s", [40]),
        ("swing, pas un quart d'heure : 40 secondes", "duration_s", [40]),
        ("swing de 3 minutos e 20", "duration_s", [200]),
    ],
)
def test_fades_and_lengths(prompt, field, expected):
    assert values(prompt, field) == expected


def test_half_of_a_length_is_no_singer():
    intent = read_intent("polka, tuba, due minuti e mezzo")
    assert (values("polka, tuba, due minuti e mezzo", "duration_s"), intent.not_followed) == ([150], ())


@pytest.mark.parametrize(
    "prompt, field, expected",
    [
        ("trompeta, blues lento en la bemol", "key", ["Ab major"]),
        ("polca, tuba y termina con fade de 4 segundos", "fade_out_s", [4]),
        ("arpa e tuba, senza nient'altro", "ensemble", [{"kind": "only", "instruments": ["harp", "tuba"]}]),
        ("je veux une harpe, pas de tuba, et que ce soit doux", "exclude", ["tuba"]),
    ],
)
def test_what_stands_beside_other_things(prompt, field, expected):
    assert values(prompt, field) == expected


@pytest.mark.parametrize(
    "prompt",
    [
        "no me opongo a una tuba",
        "que no pare la tuba, polca",
        "não abro mão da tuba, polca",
        "je ne dis pas non à un tuba",
        "ne lésinez pas sur le tuba, polka",
        "non rinuncio alla tuba, polka",
        "non dico di no a una tuba, polka",
    ],
)
def test_a_no_that_means_yes_excludes_nothing(prompt):
    assert (values(prompt, "instruments"), values(prompt, "exclude")) == (["tuba"], [])


@pytest.mark.parametrize(
    "prompt",
    [
        "reggae con un solo de tuba",
        "reggae com um solo de tuba",
        "reggae avec un solo de tuba",
        "reggae avec un solo d'hélicon et un solo d'harmonica",
        "reggae con un assolo di tuba",
    ],
)
def test_a_solo_in_what_a_band_plays_is_no_ensemble(prompt):
    assert values(prompt, "ensemble") == []
