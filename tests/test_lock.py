"""requirements.lock against pyproject.toml: complete, exact, and the same on every machine."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
LISTS = ("requirements.lock", "requirements-nodeps.txt", "requirements-triton.txt")


def pins_of(file: str) -> dict[str, Requirement]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    pins = (Requirement(line.removesuffix("\\").strip()) for line in lines if line and line[0].isalnum())
    return {canonicalize_name(pin.name): pin for pin in pins}


PINS = pins_of("requirements.lock")


def declared_requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = (entry for extra in project["optional-dependencies"].values() for entry in extra)
    declared = {Requirement(entry) for entry in (*project["dependencies"], *extras)}
    return sorted((one for one in declared if one.name != project["name"]), key=str)


@pytest.mark.parametrize("requirement", declared_requirements(), ids=str)
def test_what_pyproject_needs_is_locked_at_a_version_that_it_accepts(requirement):
    pin = PINS.get(canonicalize_name(requirement.name))

    assert pin is not None, f"{requirement.name} is not in requirements.lock; run: make lock"
    version = str(pin.specifier).removeprefix("==")
    assert requirement.specifier.contains(version, prereleases=True), f"locked at {version}; run: make lock"


@pytest.mark.parametrize("file", LISTS)
def test_every_pin_is_exact_and_names_no_build(file):
    loose = [str(pin) for pin in pins_of(file).values() if not re.fullmatch(r"==[\w.]+", str(pin.specifier))]

    assert loose == []


@pytest.mark.parametrize("file", LISTS)
def test_every_pin_names_the_hashes_of_its_files(file):
    pin = r"^(?P<name>[A-Za-z0-9][^=\n]*)==[^\\\n]+(?P<hashes>(\\\n    --hash=sha256:[0-9a-f]{64} ?)+)$"
    hashed = re.finditer(pin, (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)

    assert {canonicalize_name(match["name"]) for match in hashed} == pins_of(file).keys()


def test_torch_decides_on_each_machine_which_accelerator_libraries_it_brings():
    assert str(PINS["torch"].specifier) == "==2.13.0"
    assert [name for name in PINS if re.match(r"nvidia-|cuda-|triton|pytorch-triton", name)] == []


def test_the_lock_says_nothing_about_the_machine_that_made_it():
    assert not re.search(r"https?://|file:|/home/|/opt/|/tmp|--(extra-)?index-url|--find-links", LOCK)


def test_packages_with_broken_metadata_are_installed_once_and_without_dependencies():
    apart = pins_of("requirements-nodeps.txt").keys()

    assert apart
    assert apart.isdisjoint(PINS), "listed twice: take it out of pyproject.toml and run: make lock"
