"""Tests of the imports from other projects."""
