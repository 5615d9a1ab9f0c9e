"""Tests of priors and of sampling from them."""
