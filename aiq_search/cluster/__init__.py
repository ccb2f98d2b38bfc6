"""Ray: started for one search, joined as a node, or as a local cluster with PostgreSQL and MLflow."""

from aiq_search.cluster.connection import Connection, check_address, connected, ensure_token

__all__ = ["Connection", "check_address", "connected", "ensure_token"]
