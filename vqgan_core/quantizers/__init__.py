"""From continuous latents to indices, one file a paper."""
