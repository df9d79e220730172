"""The manifests of launch/gke against the fields of JobSet v1alpha2, batch/v1 Job and v1 Pod that they may use."""

import json
import shlex

import pytest
import yaml

from mdp_jax import distributed
from tests.launch.scripts import LAUNCH, SCRIPTS, run

TRAIN = ["pretrain", "--config", "configs/quickstart/pretrain.py", "--workdir", "/mnt/mdp/runs/q"]
TOPOLOGIES = {"1x1": 1, "2x2": 4, "2x4": 8, "4x4": 16, "4x8": 32, "8x8": 64, "8x16": 128, "16x16": 256}

# A dict lists the fields, those with ? may be missing; a one-element list is a list of such items; a type is any value
# of it; anything else is the one value that is right.
ENVIRONMENT = {"name": str, "value?": str, "valueFrom?": {"fieldRef": {"fieldPath": str}}}
CONTAINER = {
    "name": str,
    "image": str,
    "command": ["mdp"],
    "args": [str],
    "env?": [ENVIRONMENT],
    "ports": [{"containerPort": int}],
    "resources": {"requests": dict, "limits": dict},
    "volumeMounts?": [{"name": str, "mountPath": str}],
}
VOLUME = {"name": str, "persistentVolumeClaim?": {"claimName": str}, "emptyDir?": {"medium": "Memory"}}
POD = {
    "restartPolicy": "Never",  # podFailurePolicy allows nothing else
    "terminationGracePeriodSeconds": int,
    "nodeSelector": dict,
    "tolerations": [{"key": str, "operator": "Equal", "value": "true", "effect": "NoSchedule"}],
    "containers": [CONTAINER],
    "volumes?": [VOLUME],
}
EXIT_CODES = {"containerName": str, "operator": "In", "values": [int]}
JOB = {
    "parallelism": int,
    "completions": int,
    "completionMode": "Indexed",
    "backoffLimit": 0,
    "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": EXIT_CODES}]},
    "template": {"spec": POD},
}
FAILURE_RULE = {"name": str, "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
JOBSET = {
    "apiVersion": "jobset.x-k8s.io/v1alpha2",
    "kind": "JobSet",
    "metadata": {"name": str, "annotations?": dict},
    "spec": {
        "network": {"enableDNSHostnames": True, "subdomain": str},
        "failurePolicy": {"maxRestarts": int, "rules": [FAILURE_RULE]},
        "replicatedJobs": [{"name": str, "replicas": 1, "template": {"spec": JOB}}],
    },
}
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": str},
    "spec": {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": str,
        "resources": {"requests": {"storage": str}},
    },
}


def problems(value, schema, path=""):
    """What in a manifest is not as the schema says, one line each."""
    if isinstance(schema, type):
        return [] if type(value) is schema else [f"{path}: {value!r} is no {schema.__name__}"]
    if isinstance(schema, list):
        if not isinstance(value, list) or not value:
            return [f"{path}: {value!r} is no list of something"]
        return [line for i, item in enumerate(value) for line in problems(item, schema[0], f"{path}[{i}]")]
    if not isinstance(schema, dict):
        return [] if value == schema and type(value) is type(schema) else [f"{path}: {value!r} is not {schema!r}"]
    if not isinstance(value, dict):
        return [f"{path}: {value!r} has no fields"]
    fields = {name.removesuffix("?"): item for name, item in schema.items()}
    found = [f"{path}.{name}: unknown" for name in value if name not in fields]
    found += [f"{path}.{name}: missing" for name in schema if not name.endswith("?") and name not in value]
    return found + [
        line for name in value if name in fields for line in problems(value[name], fields[name], f"{path}.{name}")
    ]


@pytest.fixture
def submitted(stand_ins):
    """A function: the JobSet that submit.sh gives to kubectl, the same as its dry run prints; and its only job."""

    def submit(*arguments, train=TRAIN):
        options = [arguments[0], "--image", "registry/mdp:1", *arguments[1:]]
        status, out, err = run(SCRIPTS["gke/submit.sh"], [*options, "--dry-run", "--", *train], stand_ins)
        assert (status, err, stand_ins.calls()) == (0, "", [])
        command, *manifest, end = out.splitlines()
        assert (command, end) == ("kubectl apply --filename=- <<'EOF'", "EOF")
        stand_ins.set("kubectl", f"cat >{shlex.quote(str(stand_ins.folder))}/applied")
        assert run(SCRIPTS["gke/submit.sh"], [*options, "--", *train], stand_ins)[0] == 0
        assert stand_ins.calls() == [["kubectl", "apply", "--filename=-"]]
        assert (stand_ins.folder / "applied").read_text().splitlines() == manifest
        jobset = yaml.safe_load("\n".join(manifest))
        assert problems(jobset, JOBSET) == []
        return jobset, jobset["spec"]["replicatedJobs"][0]["template"]["spec"]

    return submit


def pod_of(job):
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    return pod, container


KINDS = pytest.mark.parametrize("kind", ["tpu", "gpu"])


@KINDS
def test_parts_of_a_manifest_agree(kind, submitted):
    jobset, job = submitted(kind, "--name", "run-7", "--claim", "lab")
    pod, container = pod_of(job)
    assert jobset["metadata"]["name"] == jobset["spec"]["network"]["subdomain"] == "run-7"
    assert job["completions"] == job["parallelism"]
    assert container["image"] == "registry/mdp:1"
    assert container["command"] + container["args"] == ["mdp", TRAIN[0], "--platform", kind, *TRAIN[1:]]
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert container["volumeMounts"][0] == {"name": "workdir", "mountPath": "/mnt/mdp"}
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "lab"
    assert pod["terminationGracePeriodSeconds"] == 120


IN_BUCKET = ["pretrain", "--config", "gs://b/c.py", "--workdir", "gs://b/runs/q"]


@KINDS
def test_what_is_in_buckets_needs_no_claim(kind, submitted):
    pod, container = pod_of(submitted(kind, train=IN_BUCKET)[1])
    assert "workdir" not in {item["name"] for item in container.get("volumeMounts", [])}
    assert not any("persistentVolumeClaim" in volume for volume in pod.get("volumes", []))
    assert "/mnt/mdp" not in json.dumps(pod)


def test_photos_of_the_shared_folder_need_it(submitted):
    pod, _ = pod_of(submitted("tpu", train=[*IN_BUCKET, "--config.data_dir=/mnt/mdp"])[1])
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "mdp"


@KINDS
def test_wrong_use_and_non_finite_losses_are_not_restarted(kind, submitted):
    """Exit status 2 or 3 fails the Job for the reason on which the JobSet fails; any other failure restarts it."""
    jobset, job = submitted(kind)
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"] == {"containerName": pod_of(job)[1]["name"], "operator": "In", "values": [2, 3]}
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] == 50


@pytest.mark.parametrize(("topology", "chips"), TOPOLOGIES.items())
def test_tpu_hosts_times_chips_is_the_topology(topology, chips, submitted):
    jobset, job = submitted("tpu", "--topology", topology)
    pod, container = pod_of(job)
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": topology,
    }
    assert job["completions"] * container["resources"]["limits"]["google.com/tpu"] == chips
    assert container["resources"]["limits"]["google.com/tpu"] == min(chips, 4)
    assert list(jobset["metadata"]["annotations"].values()) == ["cloud.google.com/gke-nodepool"]


def test_gpu_processes_find_each_other(submitted):
    jobset, job = submitted("gpu", "--nodes", "3", "--gpus", "4", "--accelerator", "nvidia-l4", "--name", "run-7")
    pod, container = pod_of(job)
    assert pod["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-l4"}
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 4}
    assert job["completions"] == 3
    variables = {item["name"]: item.get("value") for item in container["env"]}
    name, subdomain = jobset["spec"]["replicatedJobs"][0]["name"], jobset["spec"]["network"]["subdomain"]
    port = container["ports"][0]["containerPort"]
    # <JobSet>-<replicated job>-<job>-<pod>.<subdomain>, as JobSet names its pods
    assert variables.pop("MDP_COORDINATOR") == f"run-7-{name}-0-0.{subdomain}:{port}"
    assert variables == {
        "MDP_PROCESSES": "3",
        "MDP_PROCESS": None,
        "JAX_PLATFORMS": "cuda,cpu",
        "JAX_COMPILATION_CACHE_DIR": "/mnt/mdp/compiled",
    }
    assert set(distributed.VARIABLES.values()) < {item["name"] for item in container["env"]}
    index = next(item["valueFrom"]["fieldRef"]["fieldPath"] for item in container["env"] if "valueFrom" in item)
    assert index == "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def test_arguments_keep_quotes_and_backslashes(stand_ins):
    odd = ['--config.data_dir=a "b" \\n', "--config.name=it's: #1"]
    options = ["tpu", "--image", "i", "--dry-run", "--", *TRAIN, *odd]
    _, out, _ = run(SCRIPTS["gke/submit.sh"], options, stand_ins)
    jobset = yaml.safe_load("\n".join(out.splitlines()[1:-1]))
    assert pod_of(jobset["spec"]["replicatedJobs"][0]["template"]["spec"])[1]["args"] == [
        TRAIN[0],
        "--platform",
        "tpu",
        *TRAIN[1:],
        *odd,
    ]


def test_workdir_claim_is_the_one_that_submit_mounts(submitted):
    claim = yaml.safe_load((LAUNCH / "gke/workdir.yaml").read_text())
    assert problems(claim, CLAIM) == []
    pod, _ = pod_of(submitted("tpu")[1])
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda claim: claim.update(kind="Pod"), ".kind: 'Pod' is not 'PersistentVolumeClaim'"),
        (lambda claim: claim["spec"].update(acessModes=[]), ".spec.acessModes: unknown"),
        (lambda claim: claim["spec"].pop("resources"), ".spec.resources: missing"),
        (lambda claim: claim["spec"].update(accessModes=[]), ".spec.accessModes: [] is no list of something"),
        (lambda claim: claim["metadata"].update(name=7), ".metadata.name: 7 is no str"),
    ],
)
def test_the_check_finds(spoil, problem):
    claim = yaml.safe_load((LAUNCH / "gke/workdir.yaml").read_text())
    spoil(claim)
    assert problems(claim, CLAIM) == [problem]
