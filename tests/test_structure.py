"""How large a file, a function and a folder may become before it has to be split."""

import ast
from collections import Counter

import pytest

from tests.test_imports import PACKAGES, ROOT, files

FOLDERS = (*PACKAGES, "cluster")
MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 80
#: `__init__.py` included.
MAX_MODULES = 15


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_are_short(folder):
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in files(folder)}

    assert {path: lines for path, lines in lengths.items() if lines >= MAX_FILE_LINES} == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_functions_are_short(folder):
    lengths = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for path in files(folder)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    assert {name: lines for name, lines in lengths.items() if lines >= MAX_FUNCTION_LINES} == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_are_small(folder):
    modules = Counter(str(path.parent.relative_to(ROOT)) for path in files(folder))

    assert {name: count for name, count in modules.items() if count > MAX_MODULES} == {}
