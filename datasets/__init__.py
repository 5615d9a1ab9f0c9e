"""Images in, verified shards out; token datasets; the artifact store. Not Hugging Face's package of that name."""
