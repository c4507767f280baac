"""What people say instead of "no", in the languages whose words for it change with what they belong to."""

import pytest

from orchestrion.tracks.intent.reader import read_intent


@pytest.mark.parametrize(
    ("prompt", "unwanted"),
    [
        ("trąbka precz, saksofon też precz, zostaje sam kontrabas", {"trumpet", "saxophone"}),
        ("nie życzę sobie żadnych chórków; ambient, pady", {"choir"}),
        ("dubstep? nigdy w życiu. Raczej spokojny downtempo do masażu", {"dubstep"}),
        ("труба вон, саксофон тоже вон, остаётся один контрабас", {"trumpet", "saxophone"}),
        ("избавьте от хора; эмбиент, пэды, очень медленно", {"choir"}),
        ("дабстеп? упаси господь. Скорее спокойный даунтемпо", {"dubstep"}),
        ("シンバルも勘弁。尺八と箏だけで", {"cymbals"}),
        ("심벌은 질색이고요 드럼도 넣지 마세요. 하프", {"cymbals", "drums"}),
        ("吉他可免，贝斯可免，口哨不可免。乡村", {"guitar", "bass"}),
    ],
)
def test_what_is_unwanted_is_excluded_and_nothing_else(prompt, unwanted):
    assert {reading.value for reading in read_intent(prompt).readings if reading.field == "exclude"} == unwanted
