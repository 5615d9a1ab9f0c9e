"""Our metrics against independent implementations of them, on the same images and with the same weights."""
