"""What decides what the words of a prompt say: it is part of the revision of the models that ask."""

import re
from pathlib import Path

import pytest

from orchestrion.tracks import said
from orchestrion.tracks.said import excluded_in, reader_sources


def test_the_sources_of_the_reader_are_all_that_decides_what_it_says():
    """Every module of its folder that it imports, however deep; but `request` has only limits, and no words."""
    sources = set(reader_sources())
    folder = Path(said.__file__).parent
    waiting, reached = [Path(said.__file__), *(folder / "intent").rglob("*.py")], set()
    while waiting:
        path = waiting.pop()
        reached.add(path)
        for name in re.findall(r"^from orchestrion\.tracks\.([\w.]+) import", path.read_text(), re.MULTILINE):
            module = folder / f"{name.replace('.', '/')}.py"
            if module not in reached and module.stem != "request":
                waiting.append(module)

    assert len(reached) > 10
    assert reached <= sources
    assert set(folder.rglob("*.toml")) <= sources
    assert len(sources) == len(reader_sources())


@pytest.mark.parametrize(
    "negative_prompt, excluded",
    [("drums, no vocals", ("drums", "vocals")), ("noise, drums", ("drums",)), ("sea shanty", ()), ("", ())],
)
def test_a_negative_prompt_excludes_what_it_names_and_not_what_is_near_to_it(negative_prompt, excluded):
    assert excluded_in(negative_prompt) == excluded
