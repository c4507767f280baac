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
        ("4/4 말고 7/8로, 록", "metre", ["7/8"]),
        ("3/4拍子じゃなくて6/8で、ケルト", "metre", ["6/8"]),
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


@pytest.mark.parametrize(
    "prompt, excluded",
    [
        ("オルガンだけは封印で、ハープはあり", ["organ"]),
        ("ブラスは引っ込めて、弦で", ["brass"]),
        ("フルート？いらんいらん。木琴で", ["flute"]),
        ("笛の代わりにクラリネット", ["fife"]),
        ("NG：ハープ、シンバル。OK：ギター", ["harp", "cymbals"]),
        ("シンバル→なし、ベース→あり", ["cymbals"]),
        ("うるさすぎるのも静かすぎるのもNG", ["calm"]),
        ("하프는 쉬게 해 주세요, 바이올린", ["harp"]),
        ("엔카는 좀 그렇고 재즈로", ["enka"]),
        ("귀신의 집인데 안 무섭게", ["dark"]),
        ("슬프지안은 왈츠", ["sad"]),
        ("첼로 대신 기타로", ["cello"]),
        ("비올라 빼면 다 괜찮아요, 재즈", ["viola"]),
        ("口琴就让它歇着，爵士", ["harmonica"]),
        ("竖琴拜托不要，爵士", ["harp"]),
        ("唢呐千万别，二胡", ["suona"]),
        ("不要弦乐，也别有铜管，就木管", ["strings", "brass"]),
        ("把军鼓换成拍手", ["snare drum"]),
        ("民谣、朋克一概谢绝，来点爵士", ["folk", "rock", "punk"]),
        # A "no" behind a comma is one if it is all that its clause says.
        ("竖琴，不要了", ["harp"]),
        ("竖琴，休息时听", []),
        ("口琴，放假去山里", []),
        ("방 안 재즈", []),
    ],
)
def test_unusual_ways_to_say_no(prompt, excluded):
    assert sorted(set(values(prompt, "exclude"))) == sorted(excluded)


@pytest.mark.parametrize(
    "prompt, who",
    [
        ("巴松，别的乐器统统别来", ["bassoon"]),
        ("除了竖琴其他都别上", ["harp"]),
        ("二胡以外的乐器都不要", ["erhu"]),
        ("ハープとチェロ、他の楽器は一切不要", ["harp", "cello"]),
        ("尺八以外は全員お休みで", ["shakuhachi"]),
        ("첼로, 나머지 악기는 다 빼 주세요", ["cello"]),
    ],
)
def test_nobody_else_plays(prompt, who):
    assert {"kind": "only", "instruments": who} in values(prompt, "ensemble")


@pytest.mark.parametrize(
    "prompt", ["ギターソロ入りのロック", "間奏にサックスソロ、ロック", "기타 솔로가 들어간 록", "摇滚，带段solo，吉他"]
)
def test_a_solo_within_a_piece_is_no_piece_for_one(prompt):
    assert values(prompt, "ensemble") == []


@pytest.mark.parametrize(
    "prompt, instruments",
    [
        ("トロンボーンとオカリナ、カリンバ", ["trombone", "ocarina", "kalimba"]),
        ("津軽三味線", ["shamisen"]),
        ("カスタムメイドのギター", ["guitar"]),
        ("트롬본과 피콜로, 핸드팬", ["trombone", "piccolo", "hang drum"]),
        ("해금과 소금, 3박자", ["haegeum", "flute"]),
        ("소금빵 가게, 피아노", ["piano"]),
        ("长号和短笛，马头琴", ["trombone", "piccolo", "morin khuur"]),
        ("葫芦丝", ["hulusi"]),
    ],
)
def test_instruments_of_the_orchestra_and_of_the_world(prompt, instruments):
    assert values(prompt, "instruments") == instruments


@pytest.mark.parametrize(
    "prompt, bpm",
    [
        ("速度一百二，爵士", 120),
        ("一百一十六拍，放克", 116),
        ("速度一百四，哦不，一百零四", 104),
        ("两百一十拍，波尔卡", 210),
        ("テンポは七十五くらい", 75),
        ("템포는 팔십오 정도", 85),
        ("템포 백십에서 백이십 사이, 하우스", 115),
    ],
)
def test_tempos_in_words(prompt, bpm):
    assert values(prompt, "tempo_bpm") == [bpm]


@pytest.mark.parametrize(
    "prompt, begin, end",
    [
        ("起初70拍，一路催到150", 70, 150),
        ("先60拍，结尾快一倍", 60, 120),
        ("テンポ80から始めて倍速で終わる", 80, 160),
        ("BPM120→135、テクノ", 120, 135),
        ("처음엔 70, 끝날 땐 두 배 빠르게", 70, 140),
    ],
)
def test_where_a_tempo_ends(prompt, begin, end):
    assert (values(prompt, "tempo_bpm"), values(prompt, "tempo_end_bpm")) == ([begin], [end])


@pytest.mark.parametrize(
    "prompt, begin, end",
    [
        ("ト短調から変ロ長調へ", "G minor", "Bb major"),
        ("イ短調で始まり、ハ長調になって終わる", "A minor", "C major"),
        ("다장조로 시작해서 가단조로 끝나게", "C major", "A minor"),
        ("C大调开头，最后升到D大调", "C major", "D major"),
    ],
)
def test_where_a_key_ends(prompt, begin, end):
    assert (values(prompt, "key"), values(prompt, "key_end")) == ([begin], [end])


@pytest.mark.parametrize(
    "prompt, key",
    [
        ("キーはF#mで", "F# minor"),
        ("用Dm写一首，钢琴", "D minor"),
        ("마장조 말고 마단조로", "E minor"),
        ("밝은데 단조로", "minor"),
        ("라단조로 시작, 첼로", "D minor"),
    ],
)
def test_keys_beside_particles(prompt, key):
    assert values(prompt, "key") == [key]


@pytest.mark.parametrize(
    "prompt, fades",
    [
        ("淡入淡出各四秒", (4, 4)),
        ("フェードイン・アウト各3秒", (3, 3)),
        ("앞뒤로 페이드 5초씩", (5, 5)),
        ("遠ざかって終わって（フェードは六秒）", (None, 6)),
        ("淡入两秒，淡出四秒", (2, 4)),
    ],
)
def test_fades_and_their_lengths(prompt, fades):
    intent = read_intent(prompt)
    found = [intent.first("fade_in_s"), intent.first("fade_out_s")]
    assert tuple(reading and reading.value for reading in found) == fades


@pytest.mark.parametrize(
    "prompt, length_s",
    [
        ("1분 10초~1분 30초", 80),
        ("2분에서 2분 30초 사이", 135),
        ("1分20秒〜1分40秒", 90),
        ("一分半到两分二十秒", 115),
    ],
)
def test_ranges_of_minutes_and_seconds(prompt, length_s):
    assert values(prompt, "duration_s") == [length_s]


@pytest.mark.parametrize(
    "prompt, styles",
    [
        ("花店叫「朋克玫瑰」，来点民谣", ["folk"]),
        ("「ロックの森」という喫茶店、ボサノバ", ["bossa-nova"]),
        ('"재즈의 밤"이라는 가게, 탱고', ["tango"]),
        ("《摇滚乐简史》课程，爵士", ["jazz"]),
        ("「ジャズ」でお願いします", ["jazz"]),
    ],
)
def test_what_is_in_a_name_is_not_asked(prompt, styles):
    assert values(prompt, "style") == styles


@pytest.mark.parametrize(
    "prompt, genre",
    [
        ("东北秧歌，唢呐", "yangge"),
        ("评弹，琵琶", "pingtan"),
        ("ちんどん屋の行列", "chindon"),
        ("퓨전국악, 해금", "gukak fusion"),
        ("コサックダンス", "chastushka"),
    ],
)
def test_genres_of_the_region(prompt, genre):
    found = [reading.value for reading in read_intent(prompt).of("style") if isinstance(reading.value, dict)]
    assert [value["genre"] for value in found] == [genre]


@pytest.mark.parametrize(
    "prompt, use",
    [
        ("美術館の企画展、ピアノ", "background"),
        ("수족관, 하프", "background"),
        ("螺蛳粉店开业，唢呐", "restaurant"),
        ("蕎麦屋の店内、箏", "restaurant"),
        ("국밥집 음악, 재즈", "restaurant"),
        ("登山视频，钢琴", "travel"),
    ],
)
def test_occasions(prompt, use):
    assert use in values(prompt, "use")


@pytest.mark.parametrize(
    "prompt", ["像秋天的树林那样的大提琴", "嵐の前みたいな静けさ、ハープ", "눈길 걷는 느낌의 노래, 기타"]
)
def test_a_simile_names_no_artist(prompt):
    assert read_intent(prompt).not_followed == ()


def test_a_key_that_is_not_wanted_is_not_read():
    intent = read_intent("ハ長調以外で、明るいマーチ")

    assert intent.first("key") is None
    assert [one.words.text for one in intent.not_followed] == ["ハ長調"]


@pytest.mark.parametrize(
    "prompt, bpm", [("BPMは118くらい、ハウス", 118), ("BPM大概95，雷鬼", 95), ("속도는 72 정도, 발라드", 72)]
)
def test_a_tempo_behind_its_word_and_a_particle(prompt, bpm):
    assert values(prompt, "tempo_bpm") == [bpm]


def test_two_guitars_are_no_guitars_that_are_crossed_out():
    assert (values("ギター×2、ドラム", "exclude"), values("ギター×、ドラム○", "exclude")) == ([], ["guitar"])


def test_a_style_may_stand_between_those_who_play_and_how_many_they_are():
    assert values("单簧管和吉他的吉普赛爵士二重奏", "ensemble") == [
        {"kind": "duo", "instruments": ["clarinet", "guitar"]}
    ]


@pytest.mark.parametrize(
    "prompt, instrument",
    [
        ("サックスがないと始まらないジャズ", "saxophone"),
        ("ハープは外せない", "harp"),
        ("기타는 빠질 수 없어요", "guitar"),
        ("첼로가 빠지면 섭섭하죠", "cello"),
        ("唢呐千万不能少", "suona"),
        ("口琴别去掉", "harmonica"),
    ],
)
def test_what_must_not_be_missing_is_asked_for(prompt, instrument):
    assert (values(prompt, "instruments"), values(prompt, "exclude")) == ([instrument], [])


@pytest.mark.parametrize(
    "prompt",
    [
        "나팔꽃 타임랩스",
        "大号行李箱广告",
        "长号码车牌视频",
        "笙子さんの誕生日",
        "アブソリュートの広告",
        "감바스 레시피 영상",
    ],
)
def test_everyday_words_are_no_instruments(prompt):
    assert values(prompt, "instruments") == []
