"""The documents tell the truth: README's code runs, links lead somewhere, every decision and every target is listed.

How README's blocks are run: ```python blocks share one namespace, in an empty folder; ```bash and ```console blocks
(their "$ " lines) run from the checkout with .venv's commands on the PATH. A shell block that CI runs as it is, or that
never ends, is marked on the line above it: <!-- test: skip because CI runs it as it is -->.
"""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.test_imports import FOLDERS, ROOMS

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
BLOCK = re.compile(
    r"^(?:<!-- test: skip because (?P<reason>[^\n]+?) -->\n+)?```(?P<language>[\w-]*)[^\n]*\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
SHELLS = ("bash", "sh", "shell", "console")
LINK = re.compile(r"\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)|(?:src|href)=\"([^\"]+)\"")
RUN_PYTHON_BLOCKS = """
import json, sys
namespace = {"__name__": "__main__"}
for line, code in json.load(sys.stdin):
    # Each block keeps its place, so that a traceback names README's own line.
    exec(compile("\\n" * line + code, "README.md", "exec"), namespace)
"""


@dataclass(frozen=True)
class Block:
    line: int
    language: str
    code: str
    skip_reason: str | None


def blocks_of(text: str) -> list[Block]:
    return [
        Block(text.count("\n", 0, match.start("code")), match["language"], match["code"], match["reason"])
        for match in BLOCK.finditer(text)
    ]


def shell_script(block: Block) -> str:
    """The commands of a shell block; in a console block these are its "$ " lines, and the rest is output."""
    if block.language != "console":
        return block.code
    return "".join(line[2:] + "\n" for line in block.code.splitlines() if line.startswith("$ "))


def run(command: list[str], folder: Path, stdin: str = "") -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=folder, input=stdin, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, f"ended in {done.returncode}\n{done.stdout}\n{done.stderr}"


BLOCKS = blocks_of(README.read_text(encoding="utf-8"))
DOCUMENTS = sorted(
    {README, *(ROOT / f"{name}.md" for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY"))}
    | {*ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/**/*.md")}
)
#: Those that speak of the code as it is; decisions and the changelog also speak of what it was.
OF_TODAY = [path for path in DOCUMENTS if path.parent.name != "decisions" and path.name != "CHANGELOG.md"]
#: A Python file, with or without its folder; any file below a folder of ours; a module, or a name in one.
PYTHON_FILE = re.compile(r"(?<![\w./-])(?:[\w-]+/)*\w+\.py\b")
FILE_OF_OURS = re.compile(rf"(?<![\w./-])(?:{'|'.join((*FOLDERS, 'tests', 'docs'))})/[\w./-]+\.\w+\b")
MODULE = re.compile(rf"(?<![\w./-])(?:{'|'.join((*FOLDERS, 'tests'))})(?:\.[A-Za-z_]\w*)+\b(?!/)")


def test_a_written_readme_shows_the_two_commands():
    if README.read_text(encoding="utf-8").strip():
        shown = "\n".join(shell_script(block) for block in BLOCKS if block.language in SHELLS)
        assert re.search(r"\bmake demo\b", shown)
        assert re.search(r"\bmake test\b", shown)


def test_only_shell_blocks_may_be_left_out():
    assert [block.line for block in BLOCKS if block.skip_reason and block.language not in SHELLS] == []


def test_the_python_blocks_of_the_readme_run(tmp_path):
    python = [(block.line, block.code) for block in BLOCKS if block.language == "python"]

    run([sys.executable, "-c", RUN_PYTHON_BLOCKS], tmp_path, json.dumps(python))


def test_the_shell_blocks_of_the_readme_run():
    for block in BLOCKS:
        if block.language in SHELLS and block.skip_reason is None:
            run(["bash", "-euo", "pipefail", "-c", shell_script(block)], ROOT)


def test_blocks_are_found_with_their_marks_and_lines():
    text = "# T\n\n<!-- test: skip because CI runs it -->\n```bash\nmake demo\n```\n\n```console\n$ echo a\na\n```\n"

    skipped, console = blocks_of(text)

    assert (skipped.skip_reason, skipped.code, skipped.line) == ("CI runs it", "make demo\n", 4)
    assert (console.skip_reason, shell_script(console)) == (None, "echo a\n")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(document):
    prose = BLOCK.sub("", document.read_text(encoding="utf-8"))
    targets = {a or b for a, b in LINK.findall(prose)}
    relative = {target.split("#")[0] for target in targets if not re.match(r"[a-z]+:|#|data:", target)}

    assert [target for target in sorted(relative) if not (document.parent / target).exists()] == []


def file_exists(name: str) -> bool:
    """Whether a file is there: named from the checkout's root, from a package, or by its end alone."""
    folders = [ROOT, *(ROOT / folder for folder in FOLDERS)]
    return any((folder / name).exists() for folder in folders) or any(
        next((ROOT / folder).rglob(name), None) for folder in (*FOLDERS, "tests", ".ci")
    )


def module_exists(name: str) -> bool:
    """Whether `name` is a module, or the source of the module that it begins with has the rest of it."""
    at, rest = ROOT, name.split(".")
    while rest and ((at / rest[0]).is_dir() or (at / f"{rest[0]}.py").exists()):
        at /= rest.pop(0)
    source = at / "__init__.py" if at.is_dir() else at.with_suffix(".py")
    text = source.read_text(encoding="utf-8") if source.exists() else ""
    return all(re.search(rf"\b{part}\b", text) for part in rest)


@pytest.mark.parametrize("document", OF_TODAY, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_modules_that_are_named_exist(document):
    text = document.read_text(encoding="utf-8")
    paths = {*PYTHON_FILE.findall(text), *FILE_OF_OURS.findall(text)}
    modules = {name for name in MODULE.findall(text) if not file_exists(name)}

    assert [name for name in sorted(paths) if not (file_exists(name) or (document.parent / name).exists())] == []
    assert [name for name in sorted(modules) if not module_exists(name)] == []


def test_the_readme_s_tree_is_the_repository_s():
    tree = README.read_text(encoding="utf-8").split("## Where things are", 1)[1].split("```")[1]
    missing, parents = [], {0: ROOT}
    for line in tree.splitlines()[1:]:
        if not line.strip() or line.startswith(" " * 8):
            continue
        indent = len(line) - len(line.lstrip())
        folder = next(path for depth, path in reversed(parents.items()) if depth <= indent)
        names = re.split(r" {2,}|(?<=\S) (?![\w]+[/.])", line.strip(), maxsplit=1)[0].split()
        missing += [f"{folder.name}/{name}" for name in names if not (folder / name).exists()]
        parents = {depth: path for depth, path in parents.items() if depth <= indent} | {indent + 2: folder / names[0]}

    assert missing == []


@pytest.mark.parametrize("package", ROOMS)
def test_the_architecture_s_table_of_rooms_is_that_of_the_import_rules(package):
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.split(f"<!-- rooms: {package} -->", 1)[1].lstrip().split("\n\n", 1)[0]
    rows = [
        re.findall(r"`(\w+)`", f"{cells[1]} {cells[3]}")
        for line in table.splitlines()[2:]
        if (cells := line.split("|"))
    ]

    assert {room: set(allowed) for room, *allowed in rows} == ROOMS[package]


def test_every_decision_note_is_listed():
    folder = ROOT / "docs" / "decisions"
    listed = (folder / "README.md").read_text(encoding="utf-8")

    assert [note.name for note in sorted(folder.glob("[0-9]*.md")) if f"]({note.name})" not in listed] == []


def test_decision_notes_are_numbered_once_each():
    numbers = [note.name[:4] for note in sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))]

    assert numbers == [f"{n:04}" for n in range(1, len(numbers) + 1)]


def test_make_help_explains_every_target():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = set(re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)[1].split())

    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    explained = {
        line.split()[1]: line.split(maxsplit=2)[2] for line in shown.splitlines() if line.startswith("  make ")
    }
    assert set(explained) == phony
    assert {"demo", "serve", "test", "check", "bench", "lock", "clean"} <= phony
