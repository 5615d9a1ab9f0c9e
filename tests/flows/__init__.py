"""Flows, deployments and the command line."""
