"""Tests of datasets/ingest."""
