"""Scripts whose tokens are characters: no spaces, particles behind their words, a "no" behind what it is about."""

import pytest

from orchestrion.tracks.intent.reader import read_intent
from orchestrion.tracks.intent.text import phrase_tokens


def values(prompt, field):
    return [reading.value for reading in read_intent(prompt).readings if reading.field == field]


@pytest.mark.parametrize(
    "prompt, excluded",
    [
        ("ドラムとベースはなし、ピアノ", ["drums", "bass"]),
        ("箏と尺八、太鼓は使わないで", ["drums", "taiko"]),
        ("重いドラムや歪んだベースはなし", ["drums", "bass"]),
        ("暗すぎないローファイ", ["dark"]),
        ("悲しくないバラード", ["sad"]),
        ("演歌だけど歌は無し", ["vocals"]),
        ("ピアノが目立たない背景音楽", []),
        ("切ないピアノ", []),
        ("드럼이랑 베이스 없이", ["drums", "bass"]),
        ("너무 슬프지 않은 발라드", ["sad"]),
        ("피아노가 지루하게 튀어나오지 않는 곡", []),
        ("하모니카는 빼고 밴조", ["harmonica"]),
        ("不要鼓、贝斯、吉他", ["drums", "bass", "guitar"]),
        ("钢琴曲，不要鼓", ["drums"]),
        ("节奏别太快，吉他、口琴", []),
        ("颤音琴不要，爵士", ["vibraphone"]),
        ("没有灵气的流行乐", []),
        ("特别悲伤的二胡", []),
        ("不要鼓聲，鋼琴", ["drums"]),
    ],
)
def test_what_is_unwanted(prompt, excluded):
    assert sorted(values(prompt, "exclude")) == sorted(excluded)


@pytest.mark.parametrize(
    "prompt, field, expected",
    [
        ("作業用、BPM80、3分", "tempo_bpm", [80]),
        ("作業用、BPM80、3分", "duration_s", [180]),
        ("摇滚，150，3分钟", "duration_s", [180]),
        ("雷鬼，夏天海边，72拍", "tempo_bpm", [72]),
        ("분당 132박 행진곡", "tempo_bpm", [132]),
        ("テンポは90から110の間", "tempo_bpm", [100]),
        ("速度在90到110之间，爵士", "tempo_bpm", [100]),
        ("别超过110也别低于100，放克", "tempo_bpm", [105]),
        ("120에서 시작해서 140으로 끝나는 트랜스", "tempo_end_bpm", [140]),
        ("80年代シンセのポップ", "tempo_bpm", []),
        ("100人で聴くジャズ", "tempo_bpm", []),
        ("키 180 넘는 사람들의 펑키한 모임", "tempo_bpm", []),
        ("静かすぎず騒がしすぎない食事中の音楽", "dynamics", []),
        ("十分悲傷的二胡", "duration_s", []),
        ("兩分半鐘的爵士", "duration_s", [150]),
        ("三分以内のジャズ", "duration_s", [135]),
        ("纯音乐，十分钟…算了六分钟", "duration_s", [360]),
        ("一百三十五bpm的电子", "tempo_bpm", [135]),
        ("二十五秒のロカビリー", "duration_s", [25]),
        ("嬰ヘ短調", "key", ["F# minor"]),
        ("変ロ長調のトランペット", "key", ["Bb major"]),
        ("レのドリア旋法、フルート", "key", ["D dorian"]),
        ("ニ短調（和声的短音階）、チェンバロ", "key", ["D harmonic minor"]),
        ("화성단음계 가단조 탱고", "key", ["A harmonic minor"]),
        ("내림마장조 행진곡", "key", ["Eb major"]),
        ("가장 조용한 곡, 첼로", "key", []),
        ("블루스 라운지", "key", []),
        ("降E大調，圓舞曲", "key", ["Eb major"]),
        ("a和声小调探戈", "key", ["A harmonic minor"]),
        ("三角洲蓝调，A调", "key", ["A major"]),
        ("ト長調からイ長調に転調", "key_end", ["A major"]),
        ("8分の6拍子のケルト風", "metre", ["6/8"]),
        ("4분의 3박자 미뉴에트", "duration_s", []),
        ("잔잔하게, 피아노", "mood", ["calm"]),
    ],
)
def test_things_are_read(prompt, field, expected):
    assert values(prompt, field) == expected


@pytest.mark.parametrize(
    "prompt, who",
    [
        ("弦楽器なし、ピアノとチェロだけで", ["piano", "cello"]),
        ("피아노 말고는 아무것도 넣지 마세요", ["piano"]),
        ("除了钢琴什么都不要", ["piano"]),
    ],
)
def test_nothing_else_plays(prompt, who):
    assert values(prompt, "ensemble") == [{"kind": "only", "instruments": who}]


@pytest.mark.parametrize(
    "prompt, kinds",
    [
        ("森の中にいるような静かなピアノ", []),
        ("米津玄師みたいな曲", ["artist"]),
        ("아이유 같은 발라드", ["artist"]),
        ("조용한 것 같은 피아노", []),
        ("像周杰伦那样的歌，钢琴", ["artist"]),
        ("无伴奏合唱，拉丁文", ["language"]),
    ],
)
def test_what_cannot_be_had_is_said(prompt, kinds):
    assert [one.kind for one in read_intent(prompt).not_followed] == kinds


@pytest.mark.parametrize(
    "prompt, language", [("嬰ヘ長調", "ja"), ("古琴独奏，慢", "zh"), ("잔잔한 곡", "ko"), ("今天中午吃什么", "zh")]
)
def test_the_script_tells_the_language(prompt, language):
    assert read_intent(prompt).languages[0] == language


def test_traditional_characters_are_those_of_the_same_words():
    assert phrase_tokens("鋼琴獨奏") == phrase_tokens("钢琴独奏")


def test_spaces_may_be_left_out_of_korean_words_but_are_not_put_into_them():
    assert values("드럼 앤 베이스", "style") == values("드럼앤베이스", "style") == ["drum-and-bass"]
    assert values("비트가 로 크고", "style") == []
