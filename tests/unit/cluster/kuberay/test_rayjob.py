"""The manifest says what KubeRay and our own commands understand, and keeps what must live off spot machines.

The schema below has the fields that we use, from KubeRay's API reference of version 1.7: an unknown one fails.
"""
# ruff: noqa: N815 (the names are Kubernetes's)

import json
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from batch_jobs.options import parser
from batch_jobs.rendering.preemption import MARKET_LABEL, NODE_TYPE_LABEL
from cluster.preemption import watcher as preemption_watcher
from orchestrion.accounting.cost import PriceTable, describe_node

MANIFEST = Path(__file__).resolve().parents[4] / "cluster" / "kuberay" / "rayjob.yaml"
CAPACITY = "karpenter.sh/capacity-type"

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Strings = dict[str, str]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Named(Strict):
    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]


class FieldRef(Strict):
    fieldPath: str


class SecretKeyRef(Named):
    key: str


class EnvSource(Strict):
    fieldRef: FieldRef | None = None
    secretKeyRef: SecretKeyRef | None = None


class Env(Strict):
    name: str
    value: str | None = None
    valueFrom: EnvSource | None = None


class Resources(Strict):
    requests: Strings
    limits: Strings


class Mount(Named):
    mountPath: str
    readOnly: bool


class Container(Named):
    image: str
    workingDir: str | None = None
    command: list[str] | None = None
    env: list[Env] = []
    resources: Resources
    volumeMounts: list[Mount] = []

    def environment(self) -> dict[str, Env]:
        return {one.name: one for one in self.env}


class Secret(Strict):
    secretName: str


class Volume(Named):
    secret: Secret


class Toleration(Strict):
    key: str
    operator: Literal["Exists"]
    effect: Literal["NoSchedule"]


class PodSpec(Strict):
    restartPolicy: Literal["Never", "OnFailure", "Always"] | None = None
    serviceAccountName: str | None = None
    terminationGracePeriodSeconds: Positive | None = None
    nodeSelector: Strings
    tolerations: list[Toleration] = []
    containers: Annotated[list[Container], Field(min_length=1)]
    volumes: list[Volume] = []


class Pod(Strict):
    spec: PodSpec


class HeadGroup(Strict):
    rayStartParams: Strings
    labels: Strings
    template: Pod


class WorkerGroup(Strict):
    groupName: str
    minReplicas: Count
    maxReplicas: Positive
    replicas: Count
    idleTimeoutSeconds: Positive
    rayStartParams: Strings
    labels: Strings
    template: Pod

    def resources(self) -> dict[str, Any]:
        # KubeRay pastes the parameter into a shell command, so it is JSON quoted for a shell.
        [text] = shlex.split(self.rayStartParams["resources"])
        return json.loads(text)


class AuthOptions(Strict):
    mode: Literal["token", "disabled"]
    secretName: str


class AutoscalerOptions(Strict):
    version: Literal["v1", "v2"]


class RayCluster(Strict):
    rayVersion: str
    authOptions: AuthOptions
    enableInTreeAutoscaling: bool
    autoscalerOptions: AutoscalerOptions
    headGroupSpec: HeadGroup
    workerGroupSpecs: Annotated[list[WorkerGroup], Field(min_length=1)]


class RayJobSpec(Strict):
    submissionMode: Literal["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]
    entrypoint: str
    backoffLimit: Count
    activeDeadlineSeconds: Positive
    shutdownAfterJobFinishes: bool
    ttlSecondsAfterFinished: Count
    submitterPodTemplate: Pod
    rayClusterSpec: RayCluster


class RayJob(Strict):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Named
    spec: RayJobSpec


@pytest.fixture(scope="module")
def manifest():
    return yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def job(manifest):
    return RayJob.model_validate(manifest).spec


@pytest.fixture(scope="module")
def spot(job):
    [group] = job.rayClusterSpec.workerGroupSpecs
    return group


@pytest.fixture(scope="module")
def watcher(spot):
    return next(each for each in spot.template.spec.containers if each.name == "preemption-watcher")


def entrypoint(job):
    python, module, name, *arguments = shlex.split(job.entrypoint)
    assert (python, module, name) == ("python", "-m", "batch_jobs.render_catalog")
    return parser().parse_args(arguments)


def test_a_key_that_kuberay_does_not_know_would_be_noticed(manifest):
    with pytest.raises(ValidationError, match="gracePeriod"):
        RayJob.model_validate(manifest | {"spec": manifest["spec"] | {"gracePeriod": 1}})


def test_the_cluster_runs_the_ray_that_the_project_is_locked_to(job):
    lock = (MANIFEST.parents[2] / "requirements.lock").read_text(encoding="utf-8")

    assert f"ray=={job.rayClusterSpec.rayVersion}" in lock.replace("ray[data,serve]", "ray")


def test_head_and_submitter_never_run_on_spot(job):
    for pod in (job.submitterPodTemplate.spec, job.rayClusterSpec.headGroupSpec.template.spec):
        assert pod.nodeSelector == {CAPACITY: "on-demand"}
        assert pod.tolerations == [], "what keeps other pods off spot nodes keeps these off as well"


def test_nothing_is_rendered_on_the_head(job):
    head = job.rayClusterSpec.headGroupSpec

    assert head.rayStartParams["num-cpus"] == "0"
    assert "resources" not in head.rayStartParams
    assert head.labels[MARKET_LABEL] == "on-demand"


def test_render_nodes_are_spot_machines_and_say_so(spot):
    assert spot.template.spec.nodeSelector == {CAPACITY: "spot"}
    assert spot.template.spec.tolerations
    assert spot.labels[MARKET_LABEL] == "spot"
    assert spot.resources() == {"spot": int(spot.rayStartParams["num-cpus"])}, "a place for each core"


def test_the_entrypoint_has_options_that_the_command_knows_and_a_machine_that_has_a_price(job, spot):
    arguments = entrypoint(job)

    assert arguments.market == "spot"
    assert arguments.node_type == spot.labels[NODE_TYPE_LABEL]
    describe_node(arguments.node_type, arguments.market, PriceTable.load(None))
    assert all(location.startswith("s3://") for location in (arguments.catalog, arguments.out, arguments.store))


def test_all_render_processes_fit_on_the_nodes_and_a_job_can_start_from_none(job, spot):
    low, high = entrypoint(job).workers

    assert spot.minReplicas <= spot.replicas <= spot.maxReplicas
    assert 1 <= low <= high <= spot.maxReplicas * spot.resources()["spot"]
    assert entrypoint(job).cpus_per_worker * spot.resources()["spot"] <= int(spot.rayStartParams["num-cpus"])


def test_the_signing_key_is_where_the_command_looks_for_it(job, spot):
    ray_worker = spot.template.spec.containers[0]
    head = job.rayClusterSpec.headGroupSpec.template.spec.containers[0]

    for container in (ray_worker, head):
        [mount] = container.volumeMounts
        assert Path(entrypoint(job).signing_key).parent == Path(mount.mountPath)
        assert mount.readOnly


def test_the_cluster_goes_away_and_a_job_that_hangs_ends(job):
    assert job.shutdownAfterJobFinishes
    assert 0 < job.activeDeadlineSeconds <= 7 * 86_400
    assert job.backoffLimit >= 1


def test_the_watcher_understands_its_arguments_and_drains_before_the_pod_is_killed(spot, watcher):
    python, module, name, *arguments = watcher.command
    given = preemption_watcher.parser().parse_args(arguments)

    assert (python, module, name) == ("python", "-m", "cluster.preemption.watcher")
    assert given.provider == "aws"
    assert 0 < given.on_sigterm < spot.template.spec.terminationGracePeriodSeconds
    # Ray itself also drains at SIGTERM; both must mean the same deadline.
    ray_worker = spot.template.spec.containers[0].environment()
    assert float(ray_worker["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"].value) == given.on_sigterm


def test_the_watcher_finds_head_and_node_and_has_the_token(job, watcher):
    environment = watcher.environment()
    given = preemption_watcher.parser().parse_args(watcher.command[3:])

    assert given.address == "$(RAY_CLUSTER_NAME)-head-svc:6379"
    assert environment["RAY_CLUSTER_NAME"].valueFrom.fieldRef.fieldPath == "metadata.labels['ray.io/cluster']"
    assert given.node_ip == "$(POD_IP)"
    assert environment["POD_IP"].valueFrom.fieldRef.fieldPath == "status.podIP"
    assert environment["RAY_AUTH_MODE"].value == job.rayClusterSpec.authOptions.mode == "token"
    token = environment["RAY_AUTH_TOKEN"].valueFrom.secretKeyRef
    # KubeRay reads this key of the same secret.
    assert (token.name, token.key) == (job.rayClusterSpec.authOptions.secretName, "auth_token")


def test_rays_own_container_comes_first_where_kuberay_looks_for_it(job, spot):
    assert spot.template.spec.containers[0].name == "ray-worker"
    assert job.rayClusterSpec.headGroupSpec.template.spec.containers[0].name == "ray-head"
