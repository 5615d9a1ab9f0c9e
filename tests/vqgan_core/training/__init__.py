"""Tests of the training loop and of the two steps."""
