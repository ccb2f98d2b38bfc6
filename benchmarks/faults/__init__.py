"""Fault tests: processes end at random times, and nothing is lost."""
