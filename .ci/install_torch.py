"""Install the torch build that this machine's package index prefers, after its hash was found in requirements.lock.

pip alone would not: among files of which the lock has the hashes it takes one whose hash the index states, and a local
folder of wheels, where CPU builds often lie, states none; then a machine without a GPU gets gigabytes of CUDA. Run with
the Python of the virtual environment.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def locked_torch(lock: str) -> tuple[str, set[str]]:
    """The pinned version of torch, and the SHA-256 of each of its files.

    Raises:
        ValueError: the lock has no torch with hashes.
    """
    pin = re.search(
        r"^torch==(?P<version>[\w.]+)(?P<hashes>(?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", lock, re.MULTILINE
    )
    if pin is None:
        raise ValueError("requirements.lock names no torch with hashes; run: make lock")
    return pin["version"], set(re.findall(r"[0-9a-f]{64}", pin["hashes"]))


def check(wheel: Path, hashes: set[str]) -> None:
    """Let a file pass that the lock names.

    Raises:
        ValueError: it names another.
    """
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found not in hashes:
        raise ValueError(
            f"the package index gives {wheel.name} with SHA-256 {found}, which requirements.lock does not name. If "
            "this build is one to be trusted, put its hash into .ci/portable_lock.py and run: make lock"
        )


def main() -> int:
    """Install it, unless it is there."""
    version, hashes = locked_torch(LOCK.read_text(encoding="utf-8"))
    try:
        if metadata.version("torch").partition("+")[0] == version:
            return 0
    except metadata.PackageNotFoundError:
        pass
    with tempfile.TemporaryDirectory(prefix="torch-") as folder:
        download = [*PIP, "download", "--quiet", "--no-deps", "--dest", folder, f"torch=={version}"]
        subprocess.run(download, check=True)
        [wheel] = Path(folder).iterdir()
        try:
            check(wheel, hashes)
        except ValueError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        subprocess.run([*PIP, "install", "--quiet", "--no-compile", "--no-deps", str(wheel)], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
