"""For every test: reproducible property tests, no silent skip, no Ray without a token, and Triton without a card."""

import atexit
import os
import shutil
import sys
import tempfile

import pytest
import torch
from hypothesis import settings

from cluster.ray_internals import token_environment

# Before any test imports Ray, and for all that tests start.
os.environ |= token_environment(os.environ)
# Commands make a person's own signing key where there is none: for tests not in the home folder of who runs them.
_keys = tempfile.mkdtemp(prefix="orchestrion-keys-")
os.environ["ORCHESTRION_SIGNING_KEY"] = f"{_keys}/signing-key.pem"
atexit.register(shutil.rmtree, _keys, ignore_errors=True)

# Triton decides when it is imported whether its kernels are compiled for a card or interpreted, and PyTorch's compiler
# imports it in the middle of other libraries: this is the one place that is early enough.
if not torch.cuda.is_available():
    if "triton" in sys.modules:
        raise RuntimeError("Triton was imported before the tests could tell it to interpret its kernels")
    os.environ.setdefault("TRITON_INTERPRET", "1")

# The same examples in each run: a failure that CI sees is the failure that you see. Deadlines measure the machine.
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """With ORCHESTRION_NO_SKIPS set (CI sets it), a skipped test is a failed test."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("ORCHESTRION_NO_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and here every test must run: {call.excinfo.value}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """The same for a whole module that skips itself while it is collected."""
    report = yield
    if report.skipped and os.environ.get("ORCHESTRION_NO_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} skipped itself, and here every test must run: {report.longrepr}"
    return report
