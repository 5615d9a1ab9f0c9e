"""One training loop for both stages, exactly resumable."""
