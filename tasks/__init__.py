"""Stages: the work of `vqgan_core` and `datasets` as cached, resumable Prefect tasks, one file a stage."""
