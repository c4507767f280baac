"""What the command takes, and what the documents say of it."""

import argparse
import re

from batch_jobs import export_catalog
from tests.test_imports import ROOT

SECTION = (ROOT / "docs" / "catalogs.md").read_text("utf-8").split("## Get the files out", 1)[1].split("\n## ", 1)[0]


def options_of(add_arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return {name for action in parser._actions for name in action.option_strings} - {"-h", "--help"}


def test_every_option_is_documented_and_none_that_there_is_not():
    table = SECTION.split("| option |", 1)[1].split("\n\n", 1)[0]
    told = [
        name for cell in re.findall(r"^\| (`--.+?) \|", table, re.MULTILINE) for name in re.findall(r"--[a-z-]+", cell)
    ]

    assert sorted(told) == sorted(options_of(export_catalog.add_arguments))


def test_every_exit_code_is_documented():
    table = SECTION.split("| exit code |", 1)[1].split("\n\n", 1)[0]
    told = {int(code) for cell in re.findall(r"^\| ([0-9, ]+) \|", table, re.MULTILINE) for code in cell.split(",")}

    codes = {value for name, value in vars(export_catalog).items() if name.startswith("EXIT_")}
    assert told == codes | {130, 143}
