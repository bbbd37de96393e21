"""fastmlp with one feature switched on, to see what it costs beside a plain fit of the same net."""

from __future__ import annotations

import numpy as np
from problems import Parameters, augmentation

from fastmlp import schedules

from . import fastmlp_net
from .fastmlp_net import Settings


class AffineFit(fastmlp_net.Fit):
    def fit_settings(self) -> Settings:
        return {"augment": augmentation("affine")}


class ElasticFit(fastmlp_net.Fit):
    def fit_settings(self) -> Settings:
        return {"augment": augmentation("elastic")}


class SampleWeightsFit(fastmlp_net.Fit):
    def fit_settings(self) -> Settings:
        # It trains as without, but cannot know that beforehand.
        return {"sample_weight": np.ones(len(self.problem.data.X), np.float32)}


class AveragingFit(fastmlp_net.Fit):
    def optimizer_settings(self) -> Settings:
        return {"ema_decay": 0.999}


class FeatureFit(fastmlp_net.Fit):
    """A fit whose losses are others than a plain one's."""

    tolerance = None


class SmoothingFit(FeatureFit):
    def fit_settings(self) -> Settings:
        return {"label_smoothing": 0.1}


class ScheduleFit(FeatureFit):
    def fit_settings(self) -> Settings:
        return {"schedule": schedules.OneCycle()}


class WeightDecayFit(FeatureFit):
    def optimizer_settings(self) -> Settings:
        return {"weight_decay": 0.01}


class MaxNormFit(FeatureFit):
    def optimizer_settings(self) -> Settings:
        return {"max_norm": 1.0}


class ClippingFit(FeatureFit):
    def optimizer_settings(self) -> Settings:
        return {"clip_norm": 0.1}


class DropoutFit(FeatureFit):
    def net_settings(self) -> Settings:
        n_hidden = len(self.problem.case.layer_sizes) - 2
        return {"dropout": [0.2, *[0.5] * n_hidden]}


class BatchNormFit(FeatureFit):
    def net_settings(self) -> Settings:
        return {"batch_norm": True}

    def parameters(self) -> Parameters:
        folded = self.net.fold_batch_norm()
        return folded.weights, folded.biases
