"""Tests of the flows and the command line."""
