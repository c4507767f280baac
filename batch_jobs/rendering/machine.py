"""Which machine this process runs on, whatever a scheduler calls it, and since when it runs there.

Each command that starts a Ray of its own gives the same machine another node id. The bill is of machines, so it needs
a name that two commands on one machine have in common.
"""

from __future__ import annotations

import hashlib
import socket
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psutil

#: Linux: a random id of this boot. Containers of one machine have it in common, and the host's name apart, unless they
#: share its network: then they are one machine for the bill, too.
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def machine_id() -> str:
    """The name of this machine, e.g. "m-3fa9c01b52e4d7a0": a hash, because a ledger need not tell its hosts' names."""
    try:
        boot = _BOOT_ID.read_text().strip()
    except OSError:
        boot = f"{uuid.getnode():x}"
    return "m-" + hashlib.sha256(f"{socket.gethostname()}\n{boot}".encode()).hexdigest()[:16]


def process_began_at(now: datetime) -> datetime:
    """When this process was created: before its first import. Not after `now`, whatever the kernel's clock says."""
    return min(datetime.fromtimestamp(psutil.Process().create_time(), UTC), now)
