"""Commands that other packages bring: found when they are asked for, by what is installed beside the command.

The checkout's own installation may be older than its pyproject.toml, so these tests install by hand: a folder with what
an installation leaves of a package's entry points.
"""

import importlib.metadata
import os
import subprocess
import sys
import tomllib

import pytest

from orchestrion.cli import main as command
from tests.test_imports import ROOT, WITHOUT

ENTRIES = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"][command.PLUG_INS]
GREETS = """
PURPOSE = "say hello, 100 %"

def add_arguments(parser):
    parser.add_argument("--to", default="you")
    parser.set_defaults(run=run)

def run(arguments):
    print("hello", arguments.to)
    return 7
"""


def install(folder, name, entries, modules=()):
    """A package of this name, with commands and the modules that they are."""
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = "".join(f"{entry} = {module}\n" for entry, module in entries.items())
    (about / "entry_points.txt").write_text(f"[{command.PLUG_INS}]\n{lines}")
    for module, source in dict(modules).items():
        (folder / f"{module}.py").write_text(source)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Where packages are installed; modules of this test are forgotten after it."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(folder) in str(sys.modules[name].__file__):
            del sys.modules[name]


def run(capsys, *arguments):
    try:
        code = command.main(list(arguments))
    except SystemExit as ended:
        code = ended.code
    return code, capsys.readouterr()


def test_a_command_of_another_package_is_shown_and_runs(site, capsys):
    install(site, "greeter", {"greet": "greets"}, {"greets": GREETS})

    assert "say hello, 100 %" in run(capsys, "--help")[1].out
    code, printed = run(capsys, "greet", "--to", "ann")
    assert (code, printed.out) == (7, "hello ann\n")
    assert "usage: orchestrion greet [-h] [--to TO]" in run(capsys, "greet", "--help")[1].out


@pytest.mark.parametrize("source", ["import nonsense_that_is_not_there", "1 / 0", "PURPOSE_ = 1", "not python"])
def test_a_broken_package_stops_no_other_command(site, capsys, source):
    install(site, "broken", {"breaks": "breaks_"}, {"breaks_": source})
    install(site, "greeter", {"greet": "greets"}, {"greets": GREETS})

    code, printed = run(capsys, "--help")
    assert code == 0 and "say hello" in printed.out and "breaks" in printed.out and "cannot be loaded" in printed.out
    assert run(capsys, "greet")[0] == 7
    assert run(capsys, "styles")[0] == 0


def test_a_package_that_lacks_something_says_what(site, capsys):
    install(site, "broken", {"breaks": "breaks_"}, {"breaks_": "import nonsense_that_is_not_there"})

    code, printed = run(capsys, "breaks")

    assert code == 2 and "orchestrion breaks: needs nonsense_that_is_not_there, which is not installed" in printed.err


def test_no_package_takes_the_place_of_a_command_of_our_own(site, capsys):
    install(site, "greeter", dict.fromkeys(command.COMMANDS, "greets"), {"greets": GREETS})

    assert "say hello" not in run(capsys, "--help")[1].out
    code, printed = run(capsys, "styles")
    assert code == 0 and "bossa-nova" in printed.out


def test_a_command_of_our_own_does_not_look_at_what_is_installed(site, monkeypatch, capsys):
    install(site, "greeter", {"greet": "greets"}, {"greets": GREETS})

    assert run(capsys, "styles")[0] == 0
    assert "greets" not in sys.modules


@pytest.mark.parametrize("name", ENTRIES)
def test_what_pyproject_declares_is_a_command(name):
    module = importlib.metadata.EntryPoint(name, ENTRIES[name], command.PLUG_INS).load()

    assert module.PURPOSE and callable(module.add_arguments) and name not in command.COMMANDS


def in_a_process(site, script, *, without=()):
    install(site, "declared", ENTRIES)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    script = (WITHOUT.format(refused=sorted(without)) if without else "import sys\n") + script
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=site)


def test_help_shows_the_declared_commands_and_loads_nothing_for_it(tmp_path):
    (tmp_path / "site").mkdir()
    script = "from orchestrion.cli.main import main\n"
    script += "try: main(['--help'])\nexcept SystemExit: print(*sorted({name.split('.')[0] for name in sys.modules}))"

    done = in_a_process(tmp_path / "site", script)

    *shown, loaded = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert any(line.split()[:1] == ["catalog"] for line in shown)
    assert {"pydantic", "cryptography", "httpx", "numpy", "pyarrow", "ray"} & set(loaded.split()) == set()


@pytest.mark.parametrize(
    "arguments", [["catalog", "export", "--help"], ["catalog", "export", "--ledger", "l", "--to", "t"]]
)
def test_where_only_the_client_is_installed_the_catalog_s_extra_is_named(tmp_path, arguments):
    (tmp_path / "site").mkdir()
    lacking = {"pyarrow", "fsspec", "s3fs", "botocore", "numpy", "ray", "duckdb", "rich"}

    done = in_a_process(
        tmp_path / "site", f"from orchestrion.cli.main import main\nsys.exit(main({arguments}))", without=lacking
    )

    assert done.returncode == 2, done.stderr
    assert "orchestrion catalog: needs orchestrion[batch]" in done.stderr and "Traceback" not in done.stderr


def test_the_export_is_a_command_below_catalog(tmp_path):
    (tmp_path / "site").mkdir()
    script = (
        "from orchestrion.cli.main import main\nsys.exit(main(['catalog', 'export', '--ledger', 'l', '--to', 't']))"
    )

    done = in_a_process(tmp_path / "site", script)

    assert done.returncode == 2 and "there is no ledger in" in done.stderr, done.stderr
