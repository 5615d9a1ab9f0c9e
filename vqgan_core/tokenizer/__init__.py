"""Encoder, quantizer and decoder: images to indices and back."""
