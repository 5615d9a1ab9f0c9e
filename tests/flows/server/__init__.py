"""Against a real server, started as people start it. These tests run in one process, so that they share it."""
