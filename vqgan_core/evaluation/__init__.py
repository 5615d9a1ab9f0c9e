"""Metrics, each with everything that it depends on."""
