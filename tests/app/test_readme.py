"""README's HTTP examples run against the service as they are printed, but for the port."""

import subprocess

from tests.test_docs import BLOCKS, shell_script

MARK = "it needs the service of `make serve`; tests/app/test_readme.py runs it there"


def test_the_http_examples_of_the_readme_run(service, tmp_path):
    examples = [block for block in BLOCKS if block.skip_reason == MARK]
    assert examples, "README no longer shows HTTP, or its mark has changed"

    for block in examples:
        script = shell_script(block).replace("http://127.0.0.1:8000", service.url).replace("curl -s", "curl --fail -s")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert '"id"' in done.stdout
    assert (tmp_path / "reel.opus").read_bytes()[:4] == b"OggS"
