"""Which part may import which: the arrows serve_app → orchestrion ← batch_jobs, and what the core must not need."""

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("orchestrion", "serve_app", "batch_jobs", "autoscaling")
FOLDERS = (*PACKAGES, "cluster", "benchmarks")
#: Imports Triton, which comes with torch for CUDA; loaded by the torch decoder where there is a card.
CUDA_ONLY = {"orchestrion.models.musicgen.cuda_arithmetic"}


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported_packages(path: Path) -> set[str]:
    """Top-level names of every import in the file, also those inside functions and under TYPE_CHECKING."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names.add(node.module.split(".")[0])
    return names


def modules_of(package: str) -> list[str]:
    found = pkgutil.walk_packages([str(ROOT / package)], prefix=f"{package}.")
    return [package, *(module.name for module in found)]


def packages_loaded_by(modules):
    """Top-level names of all that a fresh interpreter has loaded after importing these."""
    script = f"import {', '.join(modules)}, sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert loaded.returncode == 0, loaded.stderr
    return set(loaded.stdout.split())


def test_the_whole_core_loads_without_ray_and_without_a_web_framework():
    modules = [name for name in modules_of("orchestrion") if not name.endswith("__main__") and name not in CUDA_ONLY]
    assert len(modules) > 5

    assert {"ray", "fastapi", "starlette", "uvicorn"} & packages_loaded_by(modules) == set()


def test_a_jobs_driver_starts_without_what_only_its_renderers_need():
    loaded = packages_loaded_by(["batch_jobs.render_catalog"])

    assert "ray" in loaded
    assert {"torch", "scipy", "soundfile", "soxr"} & loaded == set()


@pytest.mark.parametrize(
    "folder, forbidden",
    [
        ("orchestrion", {"ray", "fastapi", "starlette", "serve_app", "batch_jobs", "autoscaling", "cluster"}),
        ("serve_app", {"batch_jobs", "cluster"}),
        ("batch_jobs", {"serve_app", "cluster", "fastapi", "starlette"}),
        *((folder, {"tests", "benchmarks"}) for folder in (*PACKAGES, "cluster")),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(sorted(value)),
)
def test_arrows(folder, forbidden):
    wrong = {
        str(path.relative_to(ROOT)): found for path in files(folder) if (found := imported_packages(path) & forbidden)
    }

    assert wrong == {}


def test_autoscaling_needs_only_the_standard_library():
    # Ray pickles scaling policies without the modules that they import.
    allowed = sys.stdlib_module_names | {"autoscaling"}

    outside = {
        str(path.relative_to(ROOT)): found
        for path in files("autoscaling")
        if (found := imported_packages(path) - allowed)
    }

    assert outside == {}


def calls_outside_functions(tree: ast.Module):
    """Calls that run when the file is imported; the body of `if __name__ == "__main__":` is not among them."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'":
            continue
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)
        pending.extend(ast.iter_child_nodes(node))


@pytest.mark.parametrize("folder", FOLDERS)
def test_importing_a_file_never_starts_ray_or_serve(folder):
    starters = {"ray.init", "serve.run", "serve.start", "ray.serve.run", "ray.serve.start"}

    for path in files(folder):
        started = starters & set(calls_outside_functions(ast.parse(path.read_text(encoding="utf-8"))))
        assert not started, f"{path.relative_to(ROOT)} calls {started} when it is imported"
