"""The pods of PostgreSQL and MLflow in deploy/kubernetes, run by `podman kube play`.

Podman knows Deployments, claims and config maps. It is given a StatefulSet as a Deployment with a claim, and
a Service as a name in its network. It leaves out network policies, fsGroup and all probes but livenessProbe.
"""

import base64
import json
import shlex
import shutil
import time

import pytest

from aiq_search.app.deploy import init_environment
from tests.deploy.conftest import ROOT, load_all, run
from tests.deploy.engine import podman

pytestmark = [pytest.mark.slow, pytest.mark.containers, pytest.mark.timeout(2400)]
OURS = "aiq-pods"  # how the names of all that is made here begin


@pytest.fixture(scope="module")
def objects(images, tmp_path_factory):
    """What Kustomize builds of deploy/kubernetes with new secrets, by kind and name."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    folder = tmp_path_factory.mktemp("kubernetes")
    shutil.copytree(ROOT / "deploy", folder / "deploy", ignore=shutil.ignore_patterns(".env"))
    init_environment(folder / "deploy" / "kubernetes")
    done = run("kubectl", "kustomize", str(folder / "deploy" / "kubernetes"))
    assert done.returncode == 0, done.stderr
    (folder / "built.yaml").write_text(done.stdout)
    return {(each["kind"], each["metadata"]["name"]): each for each in load_all(folder / "built.yaml")}


def as_deployment(stateful_set):
    """A StatefulSet as podman knows it: a Deployment, and the claims of its template."""
    spec = stateful_set["spec"]
    del spec["serviceName"]
    claims = spec.pop("volumeClaimTemplates")
    for claim in claims:
        claim |= {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
        name = claim["metadata"]["name"]
        volume = {"name": name, "persistentVolumeClaim": {"claimName": name}}
        spec["template"]["spec"]["volumes"].append(volume)
    return [*claims, stateful_set | {"kind": "Deployment"}]


def for_podman(name, documents):
    """The objects of a pod under names of our own, without ports, which podman would publish."""
    for document in documents:
        if document["kind"] != "ConfigMap":
            document["metadata"]["name"] = f"{OURS}-{name}-{document['metadata']['name']}"
    template = documents[-1]["spec"]["template"]
    documents[-1]["metadata"]["name"] = f"{OURS}-{name}"
    # Otherwise podman 4.3 fails where it removes an init container that has ended.
    documents[-1]["metadata"]["annotations"] = {"io.podman.annotations.init.container.type": "always"}
    pod = template["spec"]
    for volume in pod["volumes"]:  # podman shares an emptyDir among all pods that have one of this name
        volume["name"] = f"{OURS}-{name}-{volume['name']}"
        if "persistentVolumeClaim" in volume:
            claim = volume["persistentVolumeClaim"]
            claim["claimName"] = f"{OURS}-{name}-{claim['claimName']}"
    for each in pod.get("initContainers", []) + pod["containers"]:
        each.pop("ports", None)
        for mount in each["volumeMounts"]:
            mount["name"] = f"{OURS}-{name}-{mount['name']}"
        probe = each.get("livenessProbe", {})
        if probe.pop("httpGet", None):  # podman would call curl, which the image does not have
            probe["exec"] = {"command": ["answers", "http://127.0.0.1:5000/health"]}
    text = "\n---\n".join(json.dumps(document) for document in documents)
    return text.replace("aiq-secrets", f"{OURS}-secrets")


@pytest.fixture(scope="module")
def secrets(objects):
    encoded = objects["Secret", "aiq-secrets"]["data"]
    return {name: base64.b64decode(value).decode() for name, value in encoded.items()}


@pytest.fixture(scope="module")
def pods(objects, tmp_path_factory):
    """The names of the two containers."""
    folder = tmp_path_factory.mktemp("pods")
    postgres = [
        objects["ConfigMap", "postgres-databases"],
        *as_deployment(objects["StatefulSet", "postgres"]),
    ]
    mlflow = [objects["PersistentVolumeClaim", "mlflow-artifacts"], objects["Deployment", "mlflow"]]
    (folder / "secret.json").write_text(json.dumps(objects["Secret", "aiq-secrets"]["data"]))
    remove_all()
    try:
        podman("network", "create", OURS)
        podman("secret", "create", f"{OURS}-secrets", str(folder / "secret.json"))
        for name, documents in (("postgres", postgres), ("mlflow", mlflow)):
            (folder / f"{name}.yaml").write_text(for_podman(name, documents))
            network = f"--network={OURS}:alias={name}"
            podman("kube", "play", network, str(folder / f"{name}.yaml"), timeout=600)
            (served,) = documents[-1]["spec"]["template"]["spec"]["containers"]
            wait_until_ready(container(name), served["livenessProbe"])
        yield {name: container(name) for name in ("postgres", "mlflow")}
    finally:
        remove_all()


def container(name):
    """What podman calls the container of a pod."""
    return f"{OURS}-{name}-pod-0-{name}"


def remove_all():
    for name in ("mlflow", "postgres"):
        podman("pod", "rm", "--force", "--time=10", f"{OURS}-{name}-pod-0", check=False)
    volumes = podman("volume", "ls", "--quiet", f"--filter=name={OURS}-").split()
    podman("volume", "rm", "postgres-databases", *volumes, check=False)
    podman("secret", "rm", f"{OURS}-secrets", check=False)
    podman("network", "rm", "--force", OURS, check=False)


def wait_until_ready(name, probe, seconds=600):
    """Wait for a container's probe. Podman's own health check would restart it: it knows no startupProbe."""
    command = f"{shlex.join(probe['exec']['command'])} && echo ready"
    deadline = time.monotonic() + seconds
    while podman("exec", name, "sh", "-c", command, check=False).strip() != "ready":
        assert time.monotonic() < deadline, podman("logs", "--tail=20", name, check=False, errors=True)
        time.sleep(2)


def test_both_become_healthy_without_root_and_with_a_read_only_root(pods):
    for name in pods.values():
        podman("healthcheck", "run", name)
        status = podman("exec", name, "cat", "/proc/self/status")
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert int(fields["Uid"].split()[0]) != 0
        assert (int(fields["CapEff"], 16), int(fields["CapBnd"], 16), fields["NoNewPrivs"]) == (0, 0, "1")
        touched = podman("exec", name, "sh", "-c", "touch /etc/x 2>/dev/null || echo refused")
        assert touched.strip() == "refused"


def test_mlflow_keeps_its_users_in_postgresql_and_does_not_get_the_drivers_password(pods, secrets):
    environment = podman("exec", pods["mlflow"], "cat", "/proc/1/environ")
    assert secrets["MLFLOW_DRIVER_PASSWORD"] not in environment
    code = (
        "import sys, requests\n"
        "url = 'http://127.0.0.1:5000/api/2.0/mlflow/experiments/search?max_results=1'\n"
        "for name, password in zip(sys.argv[1::2], sys.argv[2::2]):\n"
        "    print(requests.get(url, auth=(name, password), timeout=60).status_code)\n"
    )
    people = ["admin", secrets["MLFLOW_TRACKING_PASSWORD"], "aiq-driver", secrets["MLFLOW_DRIVER_PASSWORD"]]
    people += ["admin", "guessed"]
    assert podman("exec", pods["mlflow"], "python", "-c", code, *people).split() == ["200", "200", "401"]
