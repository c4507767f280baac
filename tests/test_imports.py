"""Which part may import which: the arrows serve_app → orchestrion ← batch_jobs, and what the core must not need."""

import ast
import graphlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("orchestrion", "serve_app", "batch_jobs", "autoscaling")
FOLDERS = (*PACKAGES, "cluster", "benchmarks")
#: Imports Triton, which comes with torch for CUDA; loaded by the torch decoder where there is a card.
CUDA_ONLY = {f"orchestrion.models.musicgen.decoder.pytorch.{name}" for name in ("cuda_arithmetic", "cuda_kernels")}


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


#: From here on the packages of `refused` cannot be imported, as if they were not installed.
WITHOUT = """
import sys
class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuses())
"""


def run_without(refused: set[str], script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a fresh interpreter in which these packages cannot be imported."""
    script = WITHOUT.format(refused=sorted(refused)) + script
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)


def modules_in(*packages: str) -> list[str]:
    return [module_of(file) for package in packages for file in files(package.replace(".", "/"))]


def test_a_client_needs_neither_signal_processing_nor_a_store():
    heavy = {"torch", "ray", "pyarrow", "fsspec", "s3fs", "numpy", "fastapi", "scipy", "soundfile", "prometheus_client"}
    light = ["orchestrion", "orchestrion.cli.main", "orchestrion.errors"]
    light += modules_in("orchestrion.client", "orchestrion.tracks", "orchestrion.trust", "orchestrion.cli")

    done = run_without(heavy, f"import {', '.join(light)}")

    assert done.returncode == 0, done.stderr
    assert len(light) > 20


def test_what_runs_on_a_device_needs_no_store_and_no_cluster():
    on_a_device = ["orchestrion.errors", "orchestrion.models.protocol", "orchestrion.models.registry"]
    on_a_device += modules_in("orchestrion.tracks", "orchestrion.audio", "orchestrion.models.composer")
    on_a_device += modules_in("orchestrion.trust")

    done = run_without({"torch", "ray", "pyarrow", "fsspec", "s3fs", "botocore"}, f"import {', '.join(on_a_device)}")

    assert done.returncode == 0, done.stderr


def test_help_is_shown_before_anything_is_loaded():
    script = "import sys; from orchestrion.cli.main import main\n"
    script += "try: main(['--help'])\nexcept SystemExit: print(*sorted(sys.modules))"
    done = run_without(set(), script)

    loaded = {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert done.returncode == 0 and "render" in done.stdout, done.stderr
    assert {"pydantic", "cryptography", "httpx", "numpy"} & loaded == set()


#: What each room of the core may import of the others, besides `errors`, `finding` and `clock`, which import none.
CORE_ROOMS = {
    "telemetry": set(),
    "resilience": set(),
    "isolation": set(),
    "accounting": set(),
    "tracks": set(),
    "audio": {"tracks", "isolation"},
    "models": {"tracks", "audio"},
    "trust": {"tracks"},
    "client": {"tracks", "trust"},
    "storage": {"tracks", "trust", "telemetry"},
    "rendering": {"tracks", "audio", "models", "trust", "storage", "resilience", "accounting", "telemetry"},
    "cli": {"tracks", "models", "trust", "client", "storage", "rendering", "telemetry"},
}
#: The same of a job's rooms, besides the files that stand beside them.
JOB_ROOMS = {
    "catalog": set(),
    "ledger": set(),
    "job_store": {"ledger"},
    "settlement": {"catalog", "ledger", "job_store"},
    "planning": {"catalog", "ledger", "job_store", "settlement"},
    "run": {"ledger", "job_store", "settlement"},
    "rendering": {"ledger", "job_store", "settlement", "planning", "run"},
    "reports": {"ledger"},
    "export": {"ledger"},
}

#: And of the service's.
SERVICE_ROOMS = {
    "delivery": set(),
    "http": {"delivery"},
    "uploads": {"http"},
    "deployments": {"delivery", "uploads"},
    "routes": {"delivery", "http", "deployments"},
}
ROOMS = {"orchestrion": CORE_ROOMS, "batch_jobs": JOB_ROOMS, "serve_app": SERVICE_ROOMS}


def imported_modules(path: Path) -> set[str]:
    """Modules of ours that the file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] in FOLDERS}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize(
    "package, room, allowed",
    [(package, room, allowed) for package, rooms in ROOMS.items() for room, allowed in rooms.items()],
)
def test_a_room_imports_only_from_those_below_it(package, room, allowed):
    rooms = {path.name for path in (ROOT / package).iterdir() if (path / "__init__.py").exists()}
    assert rooms == ROOMS[package].keys(), "a new room needs a rule"

    wrong = {
        f"{module_of(path)} imports {name}"
        for path in files(f"{package}/{room}")
        for name in imported_modules(path)
        if name.startswith(f"{package}.") and name.split(".")[1] in rooms - allowed - {room}
    }

    assert wrong == set()


@pytest.mark.parametrize(
    "folder, forbidden",
    [
        ("orchestrion", {"ray", "fastapi", "starlette", "serve_app", "batch_jobs", "autoscaling", "cluster"}),
        ("serve_app", {"batch_jobs"}),
        ("batch_jobs", {"serve_app", "fastapi", "starlette"}),
        *((folder, {"tests", "benchmarks"}) for folder in (*PACKAGES, "cluster")),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(sorted(value)),
)
def test_arrows(folder, forbidden):
    wrong = {
        str(path.relative_to(ROOT)): found for path in files(folder) if (found := imported_packages(path) & forbidden)
    }

    assert wrong == {}


#: All of `cluster` that a shell may import: what Ray keeps private, and who ends a Ray whose driver is dead.
FOR_SHELLS = ("cluster.ray_internals", "cluster.guardian")


def test_what_ray_keeps_private_is_touched_in_one_file_which_both_shells_may_import():
    private = re.compile(r"\bray(\.\w+)*\._\w+|_private\b.*import|from ray\S*\._")
    touching = {
        module_of(path) for folder in FOLDERS[:-1] for path in files(folder) if private.search(path.read_text("utf-8"))
    }
    assert touching == {"cluster.ray_internals"}

    of_cluster = {
        name
        for folder in PACKAGES
        for path in files(folder)
        for name in imported_modules(path)
        if name.split(".")[0] == "cluster" and not any(f"{name}.".startswith(f"{one}.") for one in FOR_SHELLS)
    }
    assert of_cluster == set()


def test_no_file_imports_itself_by_way_of_others():
    paths = {module_of(path): path for folder in FOLDERS[:-1] for path in files(folder)}
    graph = {module: imported_modules(path) & paths.keys() - {module} for module, path in paths.items()}

    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" → ".join(reversed(error.args[1])))


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
