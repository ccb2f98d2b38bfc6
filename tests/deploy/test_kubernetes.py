"""The Kubernetes objects: valid, closed, and such as KubeRay wants them.

KubeRay's own schemas are not to be had as a package; the fields of a RayJob are written down in kuberay.py,
and the pods inside are validated as pods.
"""

import copy
import json
import shutil

import pytest

from aiq_search.app.job import command
from aiq_search.cluster.jobs import ENTRY_POINT, SPACE
from aiq_search.cluster.package import DOCUMENT, SPACE_FILE
from aiq_search.space import load_space
from tests.deploy.conftest import ROOT, load_all, run
from tests.deploy.kuberay import RAY_JOB

kubernetes_validate = pytest.importorskip("kubernetes_validate")
jsonschema = pytest.importorskip("jsonschema")  # which kubernetes-validate needs
FOLDER = ROOT / "deploy" / "kubernetes"
JOB_FOLDER = "/etc/aiq/job"


def one(manifests, kind, name=None):
    (found,) = [m for m in manifests if m["kind"] == kind and name in (None, m["metadata"]["name"])]
    return found


def pods(manifests):
    """Every pod that the objects make, by the component that it is."""
    job = one(manifests, "RayJob")["spec"]
    cluster = job["rayClusterSpec"]
    templates = [m["spec"]["template"] for m in manifests if m["kind"] in ("Deployment", "StatefulSet")]
    templates += [job["submitterPodTemplate"], cluster["headGroupSpec"]["template"]]
    templates += [group["template"] for group in cluster["workerGroupSpecs"]]
    return {t["metadata"]["labels"]["app.kubernetes.io/component"]: t for t in templates}


def containers(template):
    """What runs in a pod, and what runs before it."""
    return template["spec"].get("initContainers", []) + template["spec"]["containers"]


def test_every_object_is_valid_and_every_pod_in_it(manifests):
    version = kubernetes_validate.latest_version()
    for manifest in manifests:
        if manifest["kind"] != "RayJob":
            kubernetes_validate.validate(manifest, version, strict=True)
    for name, template in pods(manifests).items():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": template["spec"]}
        kubernetes_validate.validate(pod, version, strict=True)


def test_kustomize_builds_it_with_the_secrets_that_init_wrote_and_not_without(tmp_path):
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns(".env"))
    base = tmp_path / "deploy" / "kubernetes"
    assert run("kubectl", "kustomize", str(base)).returncode != 0
    secret = "0" * 64
    text = (base / ".env.example").read_text()
    (base / ".env").write_text(text.replace("=\n", f"={secret}\n"))
    done = run("kubectl", "kustomize", str(base))
    assert done.returncode == 0, done.stderr
    (tmp_path / "built.yaml").write_text(done.stdout)
    built = load_all(tmp_path / "built.yaml")
    assert {m["metadata"]["namespace"] for m in built if m["kind"] != "Namespace"} == {"aiq"}
    names = {(m["kind"], m["metadata"]["name"]) for m in built}
    assert {("Secret", "aiq-secrets"), ("ConfigMap", "aiq-job"), ("ConfigMap", "postgres-databases")} <= names
    others = [m for m in built if m["kind"] != "Secret"]
    assert secret not in json.dumps(others)


def test_the_ray_job_has_what_kuberay_requires(manifests):
    job = one(manifests, "RayJob")
    jsonschema.validate(job, RAY_JOB)
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token", "secretName": "aiq-secrets"}
    assert tuple(int(part) for part in cluster["rayVersion"].split(".")) >= (2, 52, 0)
    assert (
        f"ray=={cluster['rayVersion']} \\" in (ROOT / "deploy" / "requirements.txt").read_text().splitlines()
    )
    assert spec["submitterPodTemplate"]["spec"]["restartPolicy"] == "Never"
    head = cluster["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert head["template"]["spec"]["containers"]
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert group["groupName"]
        assert group["template"]["spec"]["containers"]
    # KubeRay refuses a time after which the cluster is deleted where it is not to be deleted at all.
    assert spec["shutdownAfterJobFinishes"] or not spec["ttlSecondsAfterFinished"]


@pytest.mark.parametrize(
    "path",
    [("spec", "entryPoint"), ("spec", "rayClusterSpec", "headGroupSpec", "image"), ("spec", "backoffLimit")],
)
def test_a_field_that_kuberay_does_not_know_or_of_another_type_is_found(manifests, path):
    job = copy.deepcopy(one(manifests, "RayJob"))
    *inner, name = path
    place = job
    for key in inner:
        place = place[key]
    place[name] = "2"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job, RAY_JOB)


def test_the_job_is_the_one_that_aiq_submit_makes_and_its_space_is_valid(manifests, monkeypatch, tmp_path):
    spec = one(manifests, "RayJob")["spec"]
    space = load_space(FOLDER / "job" / SPACE_FILE)
    document = json.loads((FOLDER / "job" / DOCUMENT).read_text())
    # KubeRay gives it to the submitter's shell without quotes: with && the Ray job would be its first half.
    assert not set("&;|$`<>()\n") & set(spec["entrypoint"])
    assert spec["entrypoint"] == f"env --chdir={JOB_FOLDER} {ENTRY_POINT.removeprefix('exec ')}"
    assert spec["jobId"] == document["study"]
    assert spec["metadata"] == {SPACE: space.name}
    monkeypatch.setenv("AIQ_HOME", str(tmp_path))
    assert command(document)[-4:] == ["search", SPACE_FILE, "--study", document["study"]]


def test_the_head_and_every_worker_find_the_jobs_files_at_the_same_place(manifests):
    """Ray looks for the user's modules on a worker where the driver was started."""
    components = pods(manifests)
    for name in ("ray-head", "ray-worker"):
        spec = components[name]["spec"]
        assert {"name": "job", "configMap": {"name": "aiq-job"}} in spec["volumes"]
        (container,) = spec["containers"]
        mount = {"name": "job", "mountPath": JOB_FOLDER, "readOnly": True}
        assert mount in container["volumeMounts"]


def test_every_pod_meets_the_restricted_standard_and_is_limited_and_watched(manifests):
    assert set(pods(manifests)) == {"postgres", "mlflow", "submitter", "ray-head", "ray-worker"}
    namespace = one(manifests, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for name, template in pods(manifests).items():
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        for container in containers(template):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            resources = container["resources"]
            assert resources["requests"].keys() == resources["limits"].keys() == {"cpu", "memory"}
            assert ":" in container["image"]
            assert not container["image"].endswith(":latest")
        probes = {"startupProbe", "readinessProbe", "livenessProbe"}
        assert name == "submitter" or all(probes <= each.keys() for each in spec["containers"])


def test_secrets_come_from_the_generated_secret_alone_and_each_is_in_the_template(manifests):
    offered = {
        line.split("=")[0] for line in (FOLDER / ".env.example").read_text().splitlines() if "=" in line
    }
    held = {}
    for name, template in pods(manifests).items():
        for container in containers(template):
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                if reference is None:
                    assert "PASSWORD" not in variable["name"]
                    continue
                assert reference["name"] == "aiq-secrets"
                held.setdefault(name, set()).add(reference["key"])
    assert held == {
        "postgres": {"POSTGRES_PASSWORD", "MLFLOW_DB_PASSWORD", "OPTUNA_DB_PASSWORD"},
        "mlflow": {
            "MLFLOW_DB_PASSWORD",
            "MLFLOW_TRACKING_PASSWORD",
            "MLFLOW_DRIVER_PASSWORD",
            "MLFLOW_FLASK_SERVER_SECRET_KEY",
        },
        "ray-head": {"OPTUNA_DB_PASSWORD", "MLFLOW_DRIVER_PASSWORD"},
    }
    assert set().union(*held.values()) | {"auth_token"} <= offered
    assert not [m for m in manifests if m["kind"] == "Secret"]


def test_nothing_may_connect_but_for_the_pairs_that_must(manifests):
    policies = {m["metadata"]["name"]: m["spec"] for m in manifests if m["kind"] == "NetworkPolicy"}
    assert policies.pop("deny-all") == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    names = policies.pop("names-are-looked-up")
    assert {port["port"] for rule in names["egress"] for port in rule["ports"]} == {53}
    enters, leaves = _pairs(policies, "ingress", "from"), _pairs(policies, "egress", "to")
    ray = {("ray-head", "ray-worker", None), ("ray-worker", "ray-head", None)}
    expected = ray | {
        ("ray-worker", "ray-worker", None),
        ("mlflow", "postgres", 5432),
        ("ray-head", "postgres", 5432),
        ("ray-head", "mlflow", 5000),
        ("submitter", "ray-head", 8265),
    }
    assert leaves == expected
    assert enters == expected | {("kuberay-operator", "ray-head", 8265)}


def _pairs(policies, direction, peers):
    """Who may connect to whom, at which port, as (from, to, port)."""
    found = set()
    for policy in policies.values():
        own = policy["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
        for rule in policy.get(direction, []):
            for peer in rule[peers]:
                other = peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
                for port in [port["port"] for port in rule.get("ports", [])] or [None]:
                    found.add((other, own, port) if direction == "ingress" else (own, other, port))
    return found


def test_services_find_their_pods_and_mounted_volumes_exist(manifests):
    components = pods(manifests)
    for service in (m for m in manifests if m["kind"] == "Service"):
        ports = [
            port["containerPort"]
            for container in components[service["spec"]["selector"]["app.kubernetes.io/component"]]["spec"][
                "containers"
            ]
            for port in container["ports"]
        ]
        assert [port["port"] for port in service["spec"]["ports"]] == ports
    claims = {m["metadata"]["name"] for m in manifests if m["kind"] == "PersistentVolumeClaim"}
    used = set()
    for template in components.values():
        for volume in template["spec"].get("volumes", []):
            used |= (
                {volume["persistentVolumeClaim"]["claimName"]} if "persistentVolumeClaim" in volume else set()
            )
    assert used == claims
