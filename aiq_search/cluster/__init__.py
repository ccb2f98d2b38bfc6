"""Ray: a local cluster for one search, or the one that this machine is a node of."""

from aiq_search.cluster.connection import check_address, connected, ensure_token

__all__ = ["check_address", "connected", "ensure_token"]
