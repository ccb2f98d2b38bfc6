"""The one place that puts the rooms together; the command line and Python call it."""
