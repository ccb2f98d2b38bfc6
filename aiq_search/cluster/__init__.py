"""Ray: started for one search, joined as a node, or as a local cluster with PostgreSQL and MLflow."""

from aiq_search.cluster.connection import check_address, connected, ensure_token

__all__ = ["check_address", "connected", "ensure_token"]
