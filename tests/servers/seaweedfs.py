"""A real S3 server (SeaweedFS) for tests: it enforces signatures, conditional writes and MD5, and it can be killed.

Tests take the session's `s3_server`; one that kills its server starts its own.
"""

import json
import shutil
import socket
import subprocess
import sys
import time
import uuid
from contextlib import ExitStack
from pathlib import Path

import s3fs

START_TIMEOUT_S = 60
BUCKET = "tests"


class SeaweedFS:
    """One server process on free loopback ports, its data in `folder`; `start` after `kill` finds the same data."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.key, self.secret = "test-key", "test-secret"
        self._names = ("master", "volume", "filer", "s3")
        self._ports = dict(
            zip([f"{n}.port{g}" for n in self._names for g in ("", ".grpc")], free_ports(8), strict=True)
        )
        self._process: subprocess.Popen | None = None
        (folder / "data").mkdir(parents=True)
        identity = {"name": "tests", "credentials": [{"accessKey": self.key, "secretKey": self.secret}]}
        identities = {"identities": [identity | {"actions": ["Admin", "Read", "Write", "List"]}]}
        (folder / "s3.json").write_text(json.dumps(identities))

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._ports['s3.port']}"

    @property
    def storage_options(self) -> dict:
        """For s3fs."""
        return {"endpoint_url": self.endpoint, "key": self.key, "secret": self.secret}

    def start(self) -> None:
        """Start and wait until an object can be written."""
        weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or "weed"
        command = [
            weed, "server", f"-dir={self.folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3",
            f"-s3.config={self.folder / 's3.json'}", "-s3.autoCreateBucket=false", "-s3.port.iceberg=0",
            "-s3.port.lance=0", "-master.telemetry=false",
            "-master.electionTimeout=1s",  # 10 s by default, which a restart waits for
            "-master.volumeSizeLimitMB=64", "-volume.max=100",
            *(f"-{name}={port}" for name, port in self._ports.items()),
        ]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._takes_objects():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("SeaweedFS did not start:\n" + (self.folder / "log").read_text()[-3000:])
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, no client is told."""
        self._process.kill()
        self._process.wait()

    def new_url(self) -> str:
        """The URL of an empty place: a fresh prefix, because each bucket would take volumes of its own."""
        return f"s3://{BUCKET}/{uuid.uuid4().hex[:12]}"

    def client(self) -> s3fs.S3FileSystem:
        """A plain client, to look at objects from outside of the store."""
        return s3fs.S3FileSystem(**self.storage_options, use_listings_cache=False, skip_instance_cache=True)

    def _takes_objects(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._ports["s3.port"]), timeout=1):
                pass
            client = self.client()
            if not client.exists(BUCKET):
                client.call_s3("create_bucket", Bucket=BUCKET)
            client.call_s3("put_object", Bucket=BUCKET, Key="probe", Body=b"x")
        except OSError:
            return False
        return True


def options_argument(options: dict, folder: Path) -> str:
    """The value of `--storage-options`: the secret is in a file of this folder, and named."""
    if "secret" in options:
        (folder / "secret").write_text(options["secret"])
        options = options | {"secret": {"file": str(folder / "secret")}}
    return json.dumps(options)


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
