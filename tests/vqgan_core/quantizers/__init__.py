"""Tests of the quantizers."""
