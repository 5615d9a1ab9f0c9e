"""Parity with what the original computes, on golden cases."""
