"""Shards: the same catalog gives the same ones, nothing is in two, and neighbours are about equally long."""

from itertools import pairwise

from batch_jobs.planning.plan import SHARD_ROWS
from batch_jobs.planning.planned_rows import PlannedRow


def lines(shards):
    return [[row["line"] for row in shard.rows] for shard in shards]


def names(shards):
    return [shard.name for shard in shards]


def test_every_good_row_is_in_exactly_one_shard(plan_of):
    plan = plan_of(*({"seed": seed, "duration_s": 1.0 + seed % 40} for seed in range(100)), requests_per_shard=7)

    found = [line for shard in plan.open_shards() for line in (row["line"] for row in shard.rows)]

    assert sorted(found) == list(range(1, 101))
    assert max(shard.requests for shard in plan.open_shards()) == 7


def test_the_same_catalog_gives_the_same_names_and_a_changed_row_changes_only_its_own_shard(plan_of):
    rows = [{"seed": seed} for seed in range(30)]
    changed = [*rows[:12], rows[12] | {"title": "new"}, *rows[13:]]

    before, again, after = (names(plan_of(*each).open_shards()) for each in (rows, rows, changed))

    assert before == again and len(set(before)) == 3
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]


def test_equal_requests_are_in_one_shard_wherever_they_stand(plan_of):
    rows = [{"seed": 1}, {"seed": 2}, {"seed": 3}, {"seed": 1, "requester": "b"}, {"seed": 2, "row_id": "x"}]

    shards = list(plan_of(*rows, requests_per_shard=2).open_shards())

    assert lines(shards) == [[1, 4, 2, 5], [3]]
    assert [(shard.requests, shard.audio_s) for shard in shards] == [(2, 4.0), (1, 2.0)]


def test_more_equal_rows_than_anybody_holds_in_memory_are_cut(plan_of):
    shards = lines(plan_of(*({"row_id": f"r{n}"} for n in range(SHARD_ROWS + 5))).open_shards())

    assert [len(shard) for shard in shards] == [SHARD_ROWS, 5]


def test_the_longest_rows_come_first_and_stand_with_rows_of_their_length(plan_of):
    lengths = [1.0, 50.0, 3.0, 45.0, 12.0, 2.0, 55.0, 10.0]
    plan = plan_of(*({"duration_s": s, "seed": n} for n, s in enumerate(lengths)), requests_per_shard=3)

    by_shard = [[lengths[line - 1] for line in shard] for shard in lines(plan.open_shards())]

    assert by_shard == [[50.0, 45.0, 55.0], [12.0, 10.0, 1.0], [3.0, 2.0]]
    assert all(max(later) <= max(earlier) for earlier, later in pairwise(by_shard))


def test_a_shard_of_long_pieces_is_closed_sooner(plan_of):
    plan = plan_of(*({"seed": seed, "duration_s": 500.0} for seed in range(5)))

    assert [shard.requests for shard in plan.open_shards()] == [2, 2, 1]


def test_shards_become_smaller_towards_the_end(plan_of):
    plan = plan_of(*({"seed": seed} for seed in range(200)), requests_per_shard=8, requests_in_the_last=2)

    sizes = [shard.requests for shard in plan.open_shards()]

    assert sizes == sorted(sizes, reverse=True) and sum(sizes) == 200
    assert sizes[0] == 8 and max(sizes[-3:]) == 2 and sizes.count(8) >= 8


def test_models_do_not_share_a_shard(plan_of):
    shards = list(plan_of({"model": "a"}, {"model": "b"}, {"model": "a", "seed": 1}).open_shards())

    assert [(shard.model, line) for shard, line in zip(shards, lines(shards), strict=True)] == [
        ("a", [1, 3]), ("b", [2]),
    ]  # fmt: skip


def test_what_is_committed_is_not_planned_again_also_while_the_shards_are_read(plan_of):
    plan = plan_of(*({"seed": seed} for seed in range(6)), requests_per_shard=2)
    first, second, third = names(plan.open_shards())
    plan.note_committed([second, "01-somebody-else's"])

    read = plan.open_shards()
    seen = [next(read).name]
    plan.note_committed([first, third])

    assert seen + names(read) == [first]
    assert list(plan.open_shards()) == []


def test_rows_that_cannot_be_rendered_are_shards_of_their_own(plan_of):
    plan = plan_of({"seed": 1}, {"prompt": ""}, {"tempo_bpm": "fast"})

    [shard] = plan.open_refused()

    assert [row.line for row in shard.rows] == [2, 3] and all(row.message for row in shard.rows)
    assert (plan.rows, plan.refused, plan.requests) == (3, 2, 1)
    plan.note_committed([shard.name])
    assert list(plan.open_refused()) == []


def test_what_is_said_of_a_refused_row_does_not_name_its_shard(plan_of):
    plan, later = plan_of({"prompt": ""}), plan_of()
    [row] = plan.refused_rows()

    later.add([PlannedRow(row.line, None, "x", row.title, takes_id=False, message="said better")])

    assert names(later.open_refused()) == names(plan.open_refused())


def test_a_refused_row_that_has_an_outcome_is_not_offered_again(plan_of):
    plan = plan_of({"prompt": ""}, {"tempo_bpm": "fast"}, {"seed": -1})
    [before] = plan.open_refused()

    plan.note_settled([1, 3])

    [shard] = plan.open_refused()
    assert ([row.line for row in shard.rows], shard.name) == ([2], before.name)
    plan.note_settled([2])
    assert list(plan.open_refused()) == [] and plan.rows == 3


def test_a_second_row_of_the_same_id_is_refused_and_names_the_first(plan_of):
    plan = plan_of({"row_id": "a"}, {"row_id": "b", "seed": 1}, {"row_id": "a", "seed": 2})

    [[row]] = [shard.rows for shard in plan.open_refused()]

    assert row.line == 3 and "1" in row.message


def test_a_later_round_is_about_its_lines_only_under_other_names(plan_of):
    plan = plan_of({"seed": 1}, {"seed": 2}, {"seed": 1, "requester": "b"})
    before = names(plan.open_shards())
    plan.note_committed(before)

    plan.begin_round(2, [3])

    [shard] = plan.open_shards()
    assert lines([shard]) == [[3]] and (shard.requests, shard.audio_s) == (1, 2.0)
    assert shard.name.startswith("02-") and shard.name not in before


def test_of_rows_that_ask_for_the_same_one_is_to_be_rendered(plan_of):
    plan = plan_of({"model": "a"}, {"model": "a", "requester": "x"}, {"model": "b", "duration_s": 5.0})

    shards = [
        (each.model, each.requests, each.audio_s, [row["line"] for row in each.to_render])
        for each in plan.open_shards()
    ]

    assert shards == [("a", 1, 2.0, [1]), ("b", 1, 5.0, [3])]
    assert [row[0] for row in plan.rows_of_other_models(["a"])] == [3]
