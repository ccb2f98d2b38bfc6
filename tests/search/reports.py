"""What a network would report, computed: light to import, for workers on Ray import it, too."""

import math
import random

from aiq_search.worker import Report, Rung


def metrics_of(assignment, epoch):
    """Numbers that get better with the epochs, best near hidden1 = 12, hidden2 = 6, noisy by seed."""
    widths = assignment.architecture["arguments"]
    noise = random.Random(assignment.seed).gauss(0, 0.01)
    distance = abs(math.log(widths["hidden1"] / 12)) + abs(math.log(widths["hidden2"] / 6))
    aiq = max(0.01, (0.9 - 0.1 * distance + noise) * (1 - 0.5**epoch))
    accuracy = min(1.0, max(0.0, aiq + 0.05))
    return {
        "aiq": aiq,
        "accuracy": accuracy,
        "efficiency": min(1.0, aiq**3 / accuracy**2),
        "loss": 1 - aiq,
        "train_loss": 1 - aiq,
        "efficiency/hidden1": 0.5,
        "efficiency/hidden2": 0.5,
    }


def costs_of(assignment):
    """What was asked for of a sample's costs; a latency is noisy by seed."""
    widths = assignment.architecture["arguments"]
    latency = 1e-3 * (widths["hidden1"] + widths["hidden2"])
    latency *= 1 + 0.05 * random.Random(assignment.seed).random()
    known = {"activation_bytes": {"activation_bytes": 4 * (widths["hidden1"] + widths["hidden2"])}}
    known |= {"latency_ms": {"latency_ms": latency, "latency_ms_iqr": 1e-4}}
    return {name: value for cost in assignment.costs for name, value in known[cost].items()}


def rung_report_of(assignment, share):
    rung = Rung(share, round(50_000 * share), metrics_of(assignment, share))
    return Report(rung=rung, size=report_of(assignment, 1).size)


def report_of(assignment, epoch, metrics=None):
    metrics = metrics or metrics_of(assignment, epoch)
    last = epoch >= assignment.training["epochs"]
    test = {f"test/{n}": metrics[n] for n in ("aiq", "accuracy", "efficiency")}
    widths = assignment.architecture["arguments"]
    weights = 64 * widths["hidden1"] + widths["hidden1"] * widths["hidden2"] + widths["hidden2"] * 10
    return Report(
        epochs=((epoch, metrics),),
        chosen=epoch,
        size={
            "parameters": weights + 10,
            "parameters_weights": weights,
            "macs": weights,
            **costs_of(assignment),
        },
        done=last,
        final=test if last and assignment.test else {},
    )
