"""Tests of vqgan_core.config."""
