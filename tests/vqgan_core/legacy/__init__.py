"""Tests of imports from other projects."""
