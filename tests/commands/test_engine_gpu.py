"""The benchmark for GPUs runs from end to end where there is none; a section that fails costs only itself."""

import json
from dataclasses import replace

import pytest

from benchmarks import engine_gpu
from benchmarks.engine_gpu import SECTIONS, Document, Section, machine_of, main, run
from benchmarks.gpu.bench import Bench


@pytest.fixture
def bench(tmp_path):
    return Bench.of_this_machine(True, tmp_path)


def test_a_dry_run_does_every_section_and_the_same_command_again_does_none(tmp_path, capsys):
    path = tmp_path / "engine_gpu.json"
    document = main(["--dry", "--out", str(path)])

    assert not document["measured"]
    assert document["machine"]["card"] is None
    assert document["machine"]["versions"]["torch"]
    assert list(document["sections"]) == [section.name for section in SECTIONS]
    assert {name: section["why"] for name, section in document["sections"].items() if section["status"] != "done"} == {}
    gates = document["sections"]["gates"]["results"]
    assert {name for name, holds in gates.items() if not holds} <= {"a turned product is today's"}
    assert document == json.loads(path.read_text())

    capsys.readouterr()
    assert main(["--dry", "--out", str(path)]) == document
    assert capsys.readouterr().err.count("done by an earlier run") == len(SECTIONS)


def found(text):
    def work(_bench):
        yield "figure", text

    return work


def broken(_bench):
    yield "before", 1
    raise RuntimeError("no such instruction")


def test_a_section_that_fails_keeps_what_it_found_and_stops_no_other(bench, tmp_path):
    document = Document(tmp_path / "out.json", machine_of(bench))
    run(bench, document, [Section("bad", 0.5, broken), Section("good", 0.5, found("well"))], seconds=100)
    bad, good = document.content["sections"].values()
    assert bad["status"] == "failed"
    assert bad["why"] == "RuntimeError: no such instruction"
    assert bad["results"] == {"before": 1}
    assert (good["status"], good["results"]) == ("done", {"figure": "well"})


def test_a_section_is_cut_when_its_time_is_over_and_the_next_has_none_left(bench, tmp_path, monkeypatch):
    bench = replace(bench, dry=False)
    now_s = [0.0]
    monkeypatch.setattr(engine_gpu.time, "perf_counter", lambda: now_s[0])

    def slow(_bench):
        for part in range(100):
            now_s[0] += 30
            yield f"part {part}", part

    document = Document(tmp_path / "out.json", {"dry": False})
    run(bench, document, [Section("slow", 0.5, slow), Section("late", 0.04, found("nothing"))], seconds=100)
    late_and_slow = document.content["sections"]
    assert late_and_slow["slow"]["status"] == "cut"
    assert list(late_and_slow["slow"]["results"]) == ["part 0", "part 1"]
    assert late_and_slow["late"] == {"status": "skipped", "why": "no time was left", "results": {}}
    assert json.loads((tmp_path / "out.json").read_text()) == document.content


def test_figures_of_another_card_are_not_gone_on_from(bench, tmp_path):
    path = tmp_path / "out.json"
    Document(path, {"dry": False, "card": "an older one"}).put("card", {"status": "done"})
    assert not Document(path, machine_of(bench)).is_done("card")
    assert Document(path, {"dry": False, "card": "an older one"}).is_done("card")


def test_sections_that_do_not_exist_are_refused():
    with pytest.raises(SystemExit):
        main(["--dry", "--only", "gates,nonsense"])
