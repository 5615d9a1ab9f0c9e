"""Side-by-side measurements. They print ratios within one run: machines are shared and noisy."""
