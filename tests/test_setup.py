"""The set-up: which Python it takes, what it says without one, what the lock keeps, and that CI skips nothing."""

import hashlib
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def find_python(folder: Path, commands: dict[str, str], *named: str) -> subprocess.CompletedProcess[str]:
    """Run .ci/find-python on a PATH that holds only these commands: name → what its shell script does."""
    for name, script in commands.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    for tool in ("bash", "cat"):
        (folder / tool).symlink_to(shutil.which(tool))
    bash = shutil.which("bash")
    return subprocess.run(
        [bash, ROOT / ".ci/find-python", *named], env={"PATH": str(folder)}, capture_output=True, text=True
    )


def answers(version: str, executable: str) -> str:
    return f'case "$2" in *version_info*) echo {version};; *) echo {executable};; esac'


def test_the_first_python_that_really_runs_is_taken(tmp_path):
    commands = {
        "python3.11": "echo 'pyenv: python3.11: command not found' >&2; exit 127",
        "python3.12": answers("3.12", "/right"),
        "python3": answers("3.11", "/later"),
    }

    assert find_python(tmp_path, commands).stdout == "/right\n"


def test_a_python_named_by_the_user_comes_first(tmp_path):
    commands = {"mine": answers("3.11", "/mine"), "python3.12": answers("3.12", "/other")}

    assert find_python(tmp_path, commands, "mine").stdout == "/mine\n"


def test_on_any_other_python_it_says_what_is_wrong_and_what_to_install(tmp_path):
    found = find_python(tmp_path, {"python3.12": "exit 127", "python3": answers("3.13", "/wrong")})

    assert (found.returncode, found.stdout) == (1, "")
    assert "needs Python 3.11 or 3.12" in found.stderr
    assert "python3.12 (does not run), python3 (3.13)" in found.stderr
    assert "apt install python3.11" in found.stderr


def test_without_any_python_it_says_so(tmp_path):
    assert "PATH has: none at all" in find_python(tmp_path, {}).stderr


def test_a_lock_made_on_any_machine_names_no_build_and_no_build_s_libraries():
    made = f"# header\nnumpy==2.4.6 \\\n    --hash=sha256:{'a' * 64}\n    # via torch\n"
    made += f"nvidia-cublas-cu12==12.8.4 \\\n    --hash=sha256:{'b' * 64}\n    # via torch\n"
    made += f"torch==2.13.0+cu128 \\\n    --hash=sha256:{'c' * 64}\n    # via orchestrion\n"
    made += (
        f"triton==3.9.0 \\\n    --hash=sha256:{'d' * 64}\n    # via torch\n\n# Considered unsafe:\nsetuptools==84.2.1\n"
    )
    tool = runpy.run_path(str(ROOT / ".ci/portable_lock.py"))

    lock = tool["portable"](made)

    kept = [line for line in lock.splitlines() if not line.startswith("#")]
    # Whichever build the maker of the lock had, the hashes of all of them are there.
    torch = [line.strip(" \\").removeprefix("--hash=sha256:") for line in kept[4:-2]]
    assert torch == sorted(tool["TORCH_BUILDS"].values())
    assert kept[:3] == ["numpy==2.4.6 \\", f"    --hash=sha256:{'a' * 64}", "    # via torch"]
    assert kept[3] == "torch==2.13.0 \\"
    assert kept[-2:] == ["    # via orchestrion", "setuptools==84.2.1"]


def test_a_lock_does_not_hold_the_project_itself_which_its_extras_name():
    made = "numpy==2.4.6\n    # via\n    #   orchestrion\n    #   orchestrion (pyproject.toml)\n    #   scipy\n"
    made += "orchestrion @ file:///home/me/orchestrion\n    # via orchestrion (pyproject.toml)\n"
    made += "rich==15.0.0\n    # via orchestrion (pyproject.toml)\n"

    lock = runpy.run_path(str(ROOT / ".ci/portable_lock.py"))["portable"](made)

    assert [line for line in lock.splitlines() if not line.startswith("#")] == [
        "numpy==2.4.6",
        "    # via",
        "    #   orchestrion",
        "    #   scipy",
        "rich==15.0.0",
        "    # via orchestrion",
    ]


def test_another_torch_is_not_locked_without_the_hashes_of_its_builds():
    with pytest.raises(ValueError, match=r"torch==2\.14\.1: put this version and the hashes of its builds"):
        runpy.run_path(str(ROOT / ".ci/portable_lock.py"))["portable"]("torch==2.14.1\n")


def test_a_torch_build_whose_hash_is_not_locked_is_not_installed(tmp_path):
    tool = runpy.run_path(str(ROOT / ".ci/install_torch.py"))
    version, hashes = tool["locked_torch"]((ROOT / "requirements.lock").read_text())
    wheel = tmp_path / "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl"
    wheel.write_bytes(b"other bytes")

    tool["check"](wheel, hashes | {hashlib.sha256(b"other bytes").hexdigest()})
    with pytest.raises(ValueError, match=r"torch-2\.13\.0\+cpu.* which requirements\.lock does not name"):
        tool["check"](wheel, hashes)
    assert (version, len(hashes)) == ("2.13.0", 7)


@pytest.mark.parametrize("no_skips, status", [("", 0), ("1", 1)], ids=["at home", "in CI"])
@pytest.mark.parametrize(
    "skip",
    [
        "import pytest\ndef test_a():\n    pytest.skip('no browser')",
        "import pytest\npytest.importorskip('no_such_module')",
    ],
    ids=["a test", "a module"],
)
def test_where_every_test_must_run_a_skip_is_a_failure(tmp_path, skip, no_skips, status):
    shutil.copy(ROOT / "tests/conftest.py", tmp_path)
    (tmp_path / "test_skip.py").write_text(skip)
    (tmp_path / "test_other.py").write_text("def test_b():\n    pass")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path]

    done = subprocess.run(command, env=os.environ | {"ORCHESTRION_NO_SKIPS": no_skips}, capture_output=True, text=True)

    assert (done.returncode != 0) == (status != 0), done.stdout
    assert ("every test must run" in done.stdout) == (status != 0)
