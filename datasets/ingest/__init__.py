"""Raw images in, verified shards out. Imports nothing itself: decoding children load single modules of it."""
