"""Runners: what trains a driver's assignments and brings the reports back."""
