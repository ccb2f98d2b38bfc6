"""Delivering in this process, where the delivery process is not the subject."""

from __future__ import annotations

from aiq_search.tracking import Outbox
from aiq_search.tracking.deliver import Delivery
from aiq_search.tracking.writer import RunWriter


def deliver(outbox: Outbox, store: str, writer: RunWriter | None = None) -> None:
    """Deliver all that waits, by a delivery that knows nothing but the outbox."""
    delivery = Delivery(outbox, writer or RunWriter(outbox, store))
    while outbox.waiting(1) and delivery.run_pass(everything=True):
        pass
