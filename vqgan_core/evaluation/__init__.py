"""Metrics of reconstructions, samples and likelihoods, each stored with everything that its value depends on."""

from vqgan_core.evaluation.classifier import ClassifierSpec, DomainClassifier, shuffled_batches
from vqgan_core.evaluation.frechet import GaussianStatistics, frechet_distance
from vqgan_core.evaluation.generation import accuracy_metrics, domain_metrics
from vqgan_core.evaluation.label_maps import label_map_metrics, mean_iou
from vqgan_core.evaluation.likelihood import bits_per_dimension, unigram_nll
from vqgan_core.evaluation.metric import Metric
from vqgan_core.evaluation.precision_recall import PrecisionRecall, precision_recall
from vqgan_core.evaluation.reconstruction import l1, psnr, reconstruction_metrics, ssim
from vqgan_core.evaluation.rejection import Score, keep_best

__all__ = [
    "ClassifierSpec",
    "DomainClassifier",
    "GaussianStatistics",
    "Metric",
    "PrecisionRecall",
    "Score",
    "accuracy_metrics",
    "bits_per_dimension",
    "domain_metrics",
    "frechet_distance",
    "keep_best",
    "l1",
    "label_map_metrics",
    "mean_iou",
    "precision_recall",
    "psnr",
    "reconstruction_metrics",
    "shuffled_batches",
    "ssim",
    "unigram_nll",
]
