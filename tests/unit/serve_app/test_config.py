"""Profiles, what overrides what, and the Serve config files that operators deploy."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError
from ray.serve.schema import ServeDeploySchema

from orchestrion.accounting.cost import PriceTable
from serve_app.config import ENVIRONMENT, PoolProfile, ServeConfig, read_config
from serve_app.errors import STATUS_OF_CODE

ROOT = Path(__file__).resolve().parents[3]
PLACES = {"store_url": "/data/store", "signing_key_path": "/data/key.pem"}
SERVE_FILES = ["serve-local.yaml", "serve-gpu.yaml"]


def test_a_laptop_needs_no_argument_and_no_resource():
    config = read_config({}, {})

    assert config.profile == "local"
    assert config.store_url == str(Path.home() / ".orchestrion/store")
    for pool in (config.low_latency, config.batch):
        assert (pool.num_cpus, pool.num_gpus, pool.resources, pool.label_selector) == (0, 0, {}, {})


def test_the_command_lines_text_is_read():
    config = read_config({**PLACES, "models": "composer", "stream_pace": "8"}, {})

    assert (config.store_url, config.models, config.stream_pace) == ("/data/store", ("composer",), 8.0)


def test_arguments_come_before_the_environment_and_that_before_the_profile():
    environment = {"ORCHESTRION_STORE_URL": "s3://env/tracks", "ORCHESTRION_NODE_TYPE": "g6.xlarge", "HOME": "/x"}

    config = read_config({"store_url": "s3://argument/tracks"}, environment)

    assert config.store_url == "s3://argument/tracks"
    assert config.node_type == "g6.xlarge"


def test_a_pool_is_overridden_field_by_field():
    config = read_config({"low_latency": {"slots": 2}}, {})

    assert config.low_latency.slots == 2
    assert config.low_latency.queue_limit == read_config({}, {}).low_latency.queue_limit


def test_the_gpu_profile_keeps_the_pools_apart_and_prices_them_apart():
    config = read_config({"profile": "gpu", **PLACES}, {})

    assert not config.low_latency.resources.keys() & config.batch.resources.keys()
    assert config.render_config(config.batch).market == "spot"
    assert config.render_config(config.low_latency).market == "on-demand"


@pytest.mark.parametrize("profile", ["local", "gpu"])
def test_every_profile_has_a_price(profile):
    config = read_config({"profile": profile, **PLACES}, {})
    table = PriceTable.load(None)

    for pool in (config.low_latency, config.batch):
        render = config.render_config(pool)
        assert render.market in table.node_types[render.node_type].markets


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ({"store": "/data"}, "store"),
        ({"profile": "tpu"}, "use 'local' or 'gpu'"),
        ({"profile": "../../etc/passwd"}, "does not exist"),
        ({"store_url": "tracks"}, "absolute"),
        ({"low_latency": {"min_replicas": 3, "max_replicas": 2}}, "above max_replicas"),
        ({"batch": {"gpus": 1}}, "gpus"),
        ({"batch": {"resources": {"pool_batch": 0}}}, "pool_batch"),
        ({"stream_pace": 0.5}, "stream_pace"),
    ],
)
def test_mistakes_are_named(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        read_config(arguments, {})


def test_the_gpu_profile_asks_for_its_places():
    with pytest.raises(ValidationError, match="store_url"):
        read_config({"profile": "gpu"}, {})


@pytest.mark.parametrize("name", SERVE_FILES)
def test_serve_files_are_what_serve_and_we_accept(name):
    document = yaml.safe_load((ROOT / "cluster" / "serve" / name).read_text(encoding="utf-8"))

    schema = ServeDeploySchema.model_validate(document)
    # Serve's own schema ignores what it does not know.
    assert document.keys() <= ServeDeploySchema.model_fields.keys()
    (application,) = schema.applications
    assert application.import_path == "serve_app.app:build_app"
    config = read_config(application.args, {})
    assert config.profile in name


def test_every_setting_and_every_reason_is_documented():
    text = (ROOT / "docs" / "http-api.md").read_text(encoding="utf-8")
    names = [*ServeConfig.model_fields, *PoolProfile.model_fields, *ENVIRONMENT, *STATUS_OF_CODE]

    assert [name for name in names if f"`{name}`" not in text] == []
    for reason, (status, _) in STATUS_OF_CODE.items():
        (row,) = [line for line in text.splitlines() if line.startswith("|") and f"`{reason}`" in line]
        assert f"| {status} |" in row


def test_a_drain_covers_the_longest_stream_at_its_pace():
    def drain_s(**settings):
        return read_config({"store_url": "/data", "signing_key_path": "/key"} | settings, {}).longest_drain_s

    assert drain_s() == 60 + (600 - 60) / 4
    assert drain_s(stream_lead_s=10, stream_pace=1) == 60 + 590
    assert drain_s(stream_lead_s=900) == 60
    assert drain_s(drain_s=5) == 5
