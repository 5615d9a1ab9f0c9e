"""What tokenizers minimise: pixel, perceptual and adversarial terms."""
