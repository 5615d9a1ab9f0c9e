"""The artifact store: published, immutable directories over any fsspec file system."""
