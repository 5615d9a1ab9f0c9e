"""The science: tokenizers, quantizers, losses, priors, training, evaluation. PyTorch only; never imports Prefect."""
