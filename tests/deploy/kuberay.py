"""The fields of KubeRay's RayJob, as JSON schemas.

Written down from KubeRay's generated API reference (`docs/reference/api.md` of ray-project/kuberay, 1.7)
and, for what is required, from `ray-operator/apis/ray/v1/rayjob_types.go` and `raycluster_types.go`. Pods are
left to Kubernetes' own schema. Left out on purpose: fields that need a feature gate of the operator, or
a later version than 1.6 (deletionStrategy, tlsOptions, networkPolicy, historyServerOptions).
"""

from typing import Any

_STRING = {"type": "string"}
_INTEGER = {"type": "integer"}
_NUMBER = {"type": "number"}
_BOOLEAN = {"type": "boolean"}
_STRINGS = {"type": "object", "additionalProperties": _STRING}
_POD = {"type": "object", "required": ["spec"]}
_OTHER = {"type": "object"}  # not used here, so not spelled out
_MANAGER = {"enum": ["ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"]}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required,
        "properties": properties,
    }


_AUTHENTICATION = _object(
    [], mode={"enum": ["disabled", "token"]}, secretName=_STRING, enableK8sTokenAuth=_BOOLEAN
)

_HEAD = _object(
    ["template"],
    template=_POD,
    headService=_OTHER,
    enableIngress=_BOOLEAN,
    ingressOptions=_OTHER,
    resources=_STRINGS,
    labels=_STRINGS,
    rayStartParams=_STRINGS,
    serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]},
)

_WORKERS = _object(
    ["groupName", "template"],
    groupName=_STRING,
    replicas=_INTEGER,
    minReplicas=_INTEGER,
    maxReplicas=_INTEGER,
    idleTimeoutSeconds=_INTEGER,
    priority=_INTEGER,
    resources=_STRINGS,
    labels=_STRINGS,
    rayStartParams=_STRINGS,
    template=_POD,
    scaleStrategy=_OTHER,
    numOfHosts=_INTEGER,
)

_CLUSTER = _object(
    ["headGroupSpec"],
    upgradeStrategy=_object([], type={"enum": ["Recreate", "None"]}),
    authOptions=_AUTHENTICATION,
    suspend=_BOOLEAN,
    managedBy=_MANAGER,
    autoscalerOptions=_OTHER,
    headServiceAnnotations=_STRINGS,
    enableInTreeAutoscaling=_BOOLEAN,
    gcsFaultToleranceOptions=_OTHER,
    headGroupSpec=_HEAD,
    rayVersion=_STRING,
    workerGroupSpecs={"type": "array", "items": _WORKERS},
)

_JOB = _object(
    [],
    activeDeadlineSeconds=_INTEGER,
    preRunningDeadlineSeconds={"type": "integer", "minimum": 1},
    backoffLimit=_INTEGER,
    rayClusterSpec=_CLUSTER,
    submitterPodTemplate=_POD,
    metadata=_STRINGS,
    clusterSelector=_STRINGS,
    submitterConfig=_object([], backoffLimit=_INTEGER),
    managedBy=_MANAGER,
    entrypoint=_STRING,
    runtimeEnvYAML=_STRING,
    jobId=_STRING,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    entrypointResources=_STRING,
    entrypointNumCpus=_NUMBER,
    entrypointNumGpus=_NUMBER,
    ttlSecondsAfterFinished=_INTEGER,
    shutdownAfterJobFinishes=_BOOLEAN,
    suspend=_BOOLEAN,
)

RAY_JOB = _object(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=_OTHER,
    spec=_JOB,
)
