"""Tests of datasets/sources."""
