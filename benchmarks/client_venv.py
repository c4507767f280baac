"""How much a client installs, and how soon its command answers.

    python -m benchmarks.client_venv [--quick] [--out FILE]

Question: how large is a virtual environment with nothing but `orchestrion[client]`, and how long does
`orchestrion --help` take in it? The targets are 40 MB and 0.3 s. The baseline of the time is the same interpreter
starting and ending, the baseline of the size what the sound font, which is a wheel of its own, would add. It needs a
package index; the project itself comes from this checkout, as a wheel.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.document import machine_now, publish

ROOT = Path(__file__).resolve().parents[1]
SOUND_FONT = Path("orchestrion/models/composer/sound/soundfont")
#: Made with every environment, and no part of what is installed into it.
INSTALLERS = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence.pth", "__pycache__")
TARGET_MB, TARGET_S = 40.0, 0.3
HEAVY = ("numpy", "torch", "ray", "pyarrow", "fsspec", "fastapi")


def built_wheel(project: Path, folder: Path) -> Path:
    """The wheel of a project of this checkout, built in `folder` from a copy of what git lists of it.

    From a copy: a build leaves what it has copied beside the sources, and the next one takes it for sources.
    """
    source, wheels = folder / f"{project.name}-source", folder / f"{project.name}-wheel"
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT / project, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        # What was deleted and not yet committed is still listed.
        if name.split("/")[0] not in ("tests", "benchmarks", "docs") and (ROOT / project / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / project / name, source / name)
    run([sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, source])
    [wheel] = wheels.glob("*.whl")
    return wheel


def run(command: Sequence[str | Path]) -> str:
    """What the command prints; its complaint ends the program."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def seconds(command: Sequence[str | Path], times: int) -> list[float]:
    """How long the command takes, each time, after one that warms the disk's cache."""
    run(command)
    took = []
    for _ in range(times):
        began_s = time.perf_counter()
        run(command)
        took.append(round(time.perf_counter() - began_s, 4))
    return took


def megabytes(path: Path) -> float:
    """Bytes of a file, or of all files in a folder, in millions."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return round(sum(file.stat().st_size for file in files) / 1e6, 2)


def measure(folder: Path, times: int) -> dict[str, object]:
    """Install into a new environment in `folder`, look at it, and run the command."""
    wheel = built_wheel(Path(), folder)
    run([sys.executable, "-m", "venv", folder / "venv"])
    binaries = folder / "venv" / "bin"
    run([binaries / "python", "-m", "pip", "install", "--quiet", f"orchestrion[client] @ {wheel.as_uri()}"])
    [packages] = (folder / "venv" / "lib").glob("python*/site-packages")
    sizes = {entry.name: megabytes(entry) for entry in packages.iterdir() if not entry.name.startswith(INSTALLERS)}
    assert [name for name in HEAVY if (packages / name).exists()] == []
    run([binaries / "python", "-c", "import orchestrion.client, orchestrion; orchestrion.Client, orchestrion.verify"])
    assert "render" in run([binaries / "orchestrion", "--help"])
    help_s = seconds([binaries / "orchestrion", "--help"], times)
    total = round(sum(sizes.values()), 1)
    listed = json.loads(run([binaries / "python", "-m", "pip", "list", "--format", "json"]))
    return {
        "installed_mb": total,
        "target_mb": TARGET_MB,
        "largest_mb": dict(sorted(sizes.items(), key=lambda entry: -entry[1])[:8]),
        "with_the_sound_font_mb": round(total + megabytes(ROOT / SOUND_FONT), 1),
        "help_s": statistics.median(help_s),
        "help_each_s": help_s,
        "target_s": TARGET_S,
        "interpreter_s": statistics.median(seconds([binaries / "python", "-c", "pass"], times)),
        "met": total < TARGET_MB and statistics.median(help_s) < TARGET_S,
        "packages": {one["name"]: one["version"] for one in listed if one["name"] not in INSTALLERS},
    }


def main() -> None:
    """Measure, and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5 runs of the command instead of 21")
    parser.add_argument("--out", type=Path, help="keep the document here")
    arguments = parser.parse_args()
    question = "how large is a client's installation, and how soon does its command answer"
    with tempfile.TemporaryDirectory(prefix="client-venv-") as folder:
        figures = measure(Path(folder), 5 if arguments.quick else 21)
    publish({"question": question, "machine": machine_now(), "quick": arguments.quick, **figures}, arguments.out)


if __name__ == "__main__":
    main()
