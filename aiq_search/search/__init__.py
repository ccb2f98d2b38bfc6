"""Searching: which configurations are tried, stopped and confirmed."""
