"""Metrics of reconstructions, samples and likelihoods, each stored with everything that its value depends on."""

from vqgan_core.evaluation.bootstrap import Interval, mean_interval
from vqgan_core.evaluation.classifier import ClassifierSpec, DomainClassifier, shuffled_batches
from vqgan_core.evaluation.codebook_use import usage_metrics
from vqgan_core.evaluation.extractor import BATCH, Extractor, Features, as_bytes, joined
from vqgan_core.evaluation.extractors import build_extractor
from vqgan_core.evaluation.frechet import GaussianStatistics, frechet_distance
from vqgan_core.evaluation.generation import Seen, accuracy_metrics, domain_metrics
from vqgan_core.evaluation.inception_score import InceptionScore, inception_score
from vqgan_core.evaluation.kernel_distance import KernelDistance, kernel_distance
from vqgan_core.evaluation.label_maps import label_map_metrics, mean_iou
from vqgan_core.evaluation.likelihood import bits_per_dimension, unigram_nll
from vqgan_core.evaluation.metric import Metric
from vqgan_core.evaluation.multiscale import ms_ssim
from vqgan_core.evaluation.pixel_metrics import exact_mean, mean_metric, reconstruction_metrics
from vqgan_core.evaluation.precision_recall import (
    DensityCoverage,
    PrecisionRecall,
    density_coverage,
    precision_recall,
)
from vqgan_core.evaluation.reconstruction import l1, psnr, ssim
from vqgan_core.evaluation.rejection import Score, keep_best
from vqgan_core.evaluation.set_distances import JudgedSet, set_distances
from vqgan_core.evaluation.set_summary import SetSummary
from vqgan_core.evaluation.sums import FeatureSums

__all__ = [
    "BATCH",
    "ClassifierSpec",
    "DensityCoverage",
    "DomainClassifier",
    "Extractor",
    "FeatureSums",
    "Features",
    "GaussianStatistics",
    "InceptionScore",
    "Interval",
    "JudgedSet",
    "KernelDistance",
    "Metric",
    "PrecisionRecall",
    "Score",
    "Seen",
    "SetSummary",
    "accuracy_metrics",
    "as_bytes",
    "bits_per_dimension",
    "build_extractor",
    "density_coverage",
    "domain_metrics",
    "exact_mean",
    "frechet_distance",
    "inception_score",
    "joined",
    "keep_best",
    "kernel_distance",
    "l1",
    "label_map_metrics",
    "mean_interval",
    "mean_iou",
    "mean_metric",
    "ms_ssim",
    "precision_recall",
    "psnr",
    "reconstruction_metrics",
    "set_distances",
    "shuffled_batches",
    "ssim",
    "unigram_nll",
    "usage_metrics",
]
