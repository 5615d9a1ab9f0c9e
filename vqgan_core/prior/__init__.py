"""Autoregressive models of tokens, and sampling from them."""
