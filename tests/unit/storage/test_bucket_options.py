"""What a bucket understands of the options that it shares with s3fs, told before anything is connected to."""

import subprocess
import sys

import pytest

from orchestrion.errors import InvalidRequest
from orchestrion.storage.object_store import Objects


@pytest.mark.parametrize(
    "options, what",
    [
        ({"endpoint": "http://127.0.0.1:1"}, "it has anon, endpoint_url, key, secret, token"),
        ({"username": "me"}, "is no option of an S3 store"),
        ({"secret": 5309}, "must be of type str"),
        ({"anon": "yes"}, "must be of type bool"),
        ({"client_kwargs": "region"}, "must be of type dict"),
        ({"config_kwargs": {"patience": 3}}, "is no configuration of botocore"),
    ],
)
def test_an_option_that_would_have_no_effect_is_refused(options, what):
    with pytest.raises(InvalidRequest, match=what) as raised:
        Objects("s3://bucket", options)

    assert "5309" not in str(raised.value), "a secret is told"


@pytest.mark.parametrize(
    "options",
    [{"endpoint_url": "not a URL"}, {"client_kwargs": {"nobody": 1}}],
    ids=["endpoint", "argument"],
)
def test_what_only_botocore_can_know_to_be_wrong_is_told_when_it_is_first_used(options):
    with pytest.raises(InvalidRequest, match="storage_options"):
        Objects("s3://bucket", options | {"key": "k", "secret": "s"}).read("x")


def test_what_says_how_s3fs_reads_for_others_is_left_to_it():
    options = {"default_block_size": 1 << 20, "skip_instance_cache": True, "token": None}

    assert Objects("s3://bucket", options).storage_options == options


def test_a_folder_is_used_without_the_library_for_buckets(tmp_path):
    script = "import sys; from orchestrion.storage.object_store import Objects\n"
    script += "Objects(sys.argv[1]).create('a', b'x'); print('botocore' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"
