"""What a stranger gets out of ports: ``python stranger.py [--token TOKEN] HOST:PORT...``.

Each port is spoken to in HTTP and in gRPC, as Ray's own clients would, with another token or none. Prints
a JSON document: by port, what each request was answered with.
"""

from __future__ import annotations

import argparse
import http.client
import json
from concurrent.futures import ThreadPoolExecutor

import grpc

SECONDS = 5.0

# Content types of what Prometheus reads.
_NUMBERS = ("text/plain; version=", "application/openmetrics-text")

PAGES = [
    ("GET", "/api/version"),
    ("GET", "/api/jobs/"),
    ("POST", "/api/jobs/"),
    ("GET", "/nodes?view=summary"),
    ("GET", "/api/v0/actors"),
    ("GET", "/api/job_agent/jobs/"),
    ("POST", "/get_or_create_runtime_env"),
    ("GET", "/"),
    ("GET", "/metrics"),
]

CALLS = [
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.InternalKVGcsService/InternalKVKeys",
    "/ray.rpc.JobInfoGcsService/GetAllJobInfo",
    "/ray.rpc.ActorInfoGcsService/GetAllActorInfo",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.NodeManagerService/RequestWorkerLease",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.CoreWorkerService/PushTask",
    "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
    "/ray.rpc.ReporterService/ReportOCMetrics",
    "/ray.rpc.ReporterService/GetTraceback",
    "/ray.rpc.LogService/ListLogs",
    "/ray.rpc.RayletDriver/ClusterInfo",
    "/ray.rpc.RayletDriver/KVList",
]


def ask_in_http(address: str, token: str | None) -> dict[str, str]:
    """Status of each page, or that it is Prometheus's numbers; a port that does not speak HTTP has none."""
    answers = {}
    for method, page in PAGES:
        connection = http.client.HTTPConnection(address, timeout=SECONDS)
        try:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            connection.request(method, page, body=b"{}" if method == "POST" else None, headers=headers)
            answer = connection.getresponse()
            numbers = answer.getheader("Content-Type", "").startswith(_NUMBERS) and answer.status == 200
            answers[f"{method} {page}"] = "numbers" if numbers else str(answer.status)
        except (OSError, http.client.HTTPException):
            return answers
        finally:
            connection.close()
    return answers


def ask_in_grpc(address: str, token: str | None) -> dict[str, str]:
    """Status of each call; a port that does not speak gRPC has none."""
    answers = {}
    metadata = [] if token is None else [("authorization", f"Bearer {token}")]
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=SECONDS)
        except grpc.FutureTimeoutError:
            return answers
        for call in CALLS:
            try:
                channel.unary_unary(call)(b"", timeout=SECONDS, metadata=metadata)
                answers[call] = "OK"
            except grpc.RpcError as error:
                answers[call] = error.code().name
    return answers


def main() -> None:
    """Ask, and print the answers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--token")
    parser.add_argument("ports", nargs="+")
    given = parser.parse_args()
    with ThreadPoolExecutor(len(given.ports)) as pool:
        in_http = pool.map(lambda address: ask_in_http(address, given.token), given.ports)
        in_grpc = pool.map(lambda address: ask_in_grpc(address, given.token), given.ports)
        both = zip(given.ports, in_http, in_grpc, strict=True)
        print(json.dumps({port: {**pages, **calls} for port, pages, calls in both}))


if __name__ == "__main__":
    main()
