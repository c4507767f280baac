"""What is installed: an extra holds what its folders import, the wheels hold every file that is read at run time."""

import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.client_venv import SOUND_FONT, built_wheel
from tests.test_imports import FOLDERS, PACKAGES, ROOT, files, imported_packages
from tests.test_lock import pins_of

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: The extra that a folder's code needs, besides the base. A folder that is not named needs what the one above it does.
EXTRA_OF = {
    "orchestrion": None,
    "orchestrion/client": "client",
    "orchestrion/trust": "trust",
    "orchestrion/audio": "edge",
    "orchestrion/audio/ffmpeg": "formats",
    "orchestrion/models": "edge",
    "orchestrion/models/audiocraft": "musicgen",
    "orchestrion/models/musicgen": "musicgen",
    "orchestrion/accounting": "render",
    "orchestrion/rendering": "render",
    "orchestrion/storage": "render",
    "orchestrion/telemetry": "render",
    "serve_app": "serve",
    "batch_jobs": "batch",
    "autoscaling": None,
    "cluster": "all",
}
#: What pip does not bring with any extra, and why: those files say it.
APART = pins_of("requirements-nodeps.txt").keys() | pins_of("requirements-triton.txt").keys()


@cache
def declared(extra: str | None) -> frozenset[str]:
    """Names of what a requirement with this extra brings directly, those of the extras that it names included."""
    entries = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    found = set() if extra is None else set(declared(None))
    for requirement in map(Requirement, entries):
        if requirement.name == PROJECT["name"]:
            found = found.union(*map(declared, requirement.extras))
        else:
            found.add(canonicalize_name(requirement.name))
    return frozenset(found)


def folder_with_an_extra(path: Path) -> str:
    return next(name for folder in path.parents if (name := str(folder.relative_to(ROOT))) in EXTRA_OF)


@cache
def distributions() -> dict[str, set[str]]:
    return {name: {canonicalize_name(one) for one in found} for name, found in packages_distributions().items()}


@pytest.mark.parametrize("folder", EXTRA_OF)
def test_what_a_folder_imports_its_extra_brings(folder):
    ours = {*FOLDERS, "tests"}
    undeclared = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files(folder)
        if folder_with_an_extra(path) == folder
        for name in imported_packages(path) - sys.stdlib_module_names - ours
        if not distributions().get(name, {canonicalize_name(name)}) & (declared(EXTRA_OF[folder]) | APART)
    }

    assert undeclared == set()


def test_all_is_every_other_extra_but_that_of_the_tests():
    others = PROJECT["optional-dependencies"].keys() - {"all", "dev"}

    assert declared("all") == frozenset().union(*map(declared, others))


def test_a_client_is_asked_for_little():
    assert declared("client") == {"cryptography", "httpx", "pydantic", "pydantic-core", "rfc8785"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Names of the files in the wheel of the project and in that of its sound font, as pip makes them."""
    folder = tmp_path_factory.mktemp("wheels")
    wheels = [built_wheel(project, folder) for project in (Path(), SOUND_FONT)]
    return [set(zipfile.ZipFile(wheel).namelist()) for wheel in wheels]


def test_the_wheels_hold_every_file_of_the_packages_each_in_one_of_them(built):
    project, sound_font = (
        {name for name in names if ".dist-info/" not in name and not name.endswith("pyproject.toml")} for names in built
    )
    # Files that git does not know do not count: caches, and experiments.
    listed = subprocess.run(["git", "ls-files", *PACKAGES, "cluster"], cwd=ROOT, capture_output=True, text=True)
    in_checkout = {name for name in listed.stdout.splitlines() if not name.endswith("pyproject.toml")}

    assert in_checkout - project - sound_font == set()
    assert project & sound_font == set()
    assert {name for name in sound_font if name.endswith(".sf3")} == {f"{SOUND_FONT}/FluidR3Mono_GM_subset.sf3"}
    assert {"orchestrion/py.typed", "orchestrion/accounting/prices.yaml", "serve_app/studio/index.html"} <= project
