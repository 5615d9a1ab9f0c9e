"""Flows: one file a flow; each reads a config, calls tasks and returns artifacts. No arithmetic, no I/O."""
