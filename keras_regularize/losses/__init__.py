"""Pass them to `compile(loss=…)`; functions are pieces to build with.

Each gives one value per sample, so sample weights, masks and several replicas work as with Keras' own."""

from keras_regularize.losses._cluster_target_distribution import cluster_target_distribution
from keras_regularize.losses._conditional_entropy import conditional_entropy
from keras_regularize.losses.aggregate_response import AggregateResponse
from keras_regularize.losses.audio.log_stft_magnitude import LogSTFTMagnitude
from keras_regularize.losses.audio.multi_resolution_stft import MultiResolutionSTFT
from keras_regularize.losses.audio.spectral_convergence import SpectralConvergence
from keras_regularize.losses.boxes.ciou import CIoU
from keras_regularize.losses.boxes.diou import DIoU
from keras_regularize.losses.boxes.giou import GIoU
from keras_regularize.losses.bures_wasserstein import BuresWasserstein
from keras_regularize.losses.calibration.acls import ACLS
from keras_regularize.losses.calibration.flsd import FLSD
from keras_regularize.losses.calibration.max_sup import MaxSup
from keras_regularize.losses.calibration.mbls import MbLS
from keras_regularize.losses.calibration.mdca import MDCA
from keras_regularize.losses.calibration.spectral_decoupling import SpectralDecoupling
from keras_regularize.losses.classification._calibrated_derivatives import calibrated_derivatives
from keras_regularize.losses.classification.comp_sum import CompSum
from keras_regularize.losses.classification.entmax import Entmax, Sparsemax
from keras_regularize.losses.classification.poly import PolyLoss
from keras_regularize.losses.classification.poly_focal import PolyFocal
from keras_regularize.losses.classification.z_loss import ZLoss
from keras_regularize.losses.contrastive._center import center_loss, center_update
from keras_regularize.losses.contrastive.alignment import Alignment
from keras_regularize.losses.contrastive.barlow_twins import BarlowTwins
from keras_regularize.losses.contrastive.f_divergence import FDivergenceContrastive
from keras_regularize.losses.contrastive.icon import ICon
from keras_regularize.losses.contrastive.info_nce import InfoNCE
from keras_regularize.losses.contrastive.n_pair import NPair
from keras_regularize.losses.contrastive.neighbors import (
    ClassNeighbors,
    ClusterNeighbors,
    CutNeighbors,
    GaussianNeighbors,
    IdentityNeighbors,
    KNNNeighbors,
    LabelNeighbors,
    LogitNeighbors,
    PrecomputedNeighbors,
    StudentTNeighbors,
)
from keras_regularize.losses.contrastive.nt_xent import NTXent
from keras_regularize.losses.contrastive.sup_con import SupCon
from keras_regularize.losses.contrastive.triplet import Triplet
from keras_regularize.losses.contrastive.vicreg import VICReg
from keras_regularize.losses.depict import DEPICT
from keras_regularize.losses.distillation import decoupled_distillation_loss, distillation_loss
from keras_regularize.losses.features._neural_collapse import (
    neural_collapse_between,
    neural_collapse_within,
)
from keras_regularize.losses.features._rationale_invariance import rationale_invariance
from keras_regularize.losses.features._surrogate_geometry import (
    enveloping_loss,
    homogeneity_loss,
    surrogate_contrastive_loss,
)
from keras_regularize.losses.features._weighted_laplacian_penalty import weighted_laplacian_penalty
from keras_regularize.losses.features.tregs import TREGS
from keras_regularize.losses.forecasting.dilate import DILATE
from keras_regularize.losses.forecasting.mean_absolute_scaled_error import MeanAbsoluteScaledError
from keras_regularize.losses.forecasting.mean_bias_error import MeanBiasError
from keras_regularize.losses.forecasting.percentage_errors import (
    SymmetricMeanAbsolutePercentageError,
    WeightedAbsolutePercentageError,
)
from keras_regularize.losses.forecasting.quantile import Quantile
from keras_regularize.losses.forecasting.relative_errors import (
    NormalizedRootMeanSquaredError,
    RelativeAbsoluteError,
    RelativeRootMeanSquaredError,
    RelativeSquaredError,
)
from keras_regularize.losses.forecasting.root_mean_squared_errors import (
    RootMeanSquaredError,
    RootMeanSquaredLogarithmicError,
)
from keras_regularize.losses.forecasting.soft_dtw import SoftDTW
from keras_regularize.losses.images.edge_aware_smoothness import EdgeAwareSmoothness
from keras_regularize.losses.images.elastic_gradient import ElasticGradient
from keras_regularize.losses.images.scale_invariant_log import ScaleInvariantLog
from keras_regularize.losses.images.scale_shift_invariant import ScaleShiftInvariant
from keras_regularize.losses.images.ssim import SSIM
from keras_regularize.losses.imbalance._class_balanced import class_balanced_weights
from keras_regularize.losses.imbalance.any_loss import AnyLoss
from keras_regularize.losses.imbalance.ldam import LDAM
from keras_regularize.losses.imbalance.logit_adjusted import LogitAdjusted
from keras_regularize.losses.imbalance.seesaw import Seesaw
from keras_regularize.losses.loss import ClassLoss, Loss
from keras_regularize.losses.matching_loss import MatchingLoss
from keras_regularize.losses.noisy_labels._early_learning import early_learning_penalty
from keras_regularize.losses.noisy_labels.bi_tempered import BiTempered
from keras_regularize.losses.noisy_labels.symmetric_crossentropy import SymmetricCrossentropy
from keras_regularize.losses.noisy_labels.z_error import ZErrorBCE, ZErrorMSE
from keras_regularize.losses.perceptual import Perceptual
from keras_regularize.losses.probabilistic.distributions import gaussian_mixture_cdf
from keras_regularize.losses.probabilistic.ensemble_crps import EnsembleCRPS
from keras_regularize.losses.probabilistic.gaussian import (
    GaussianCRPS,
    GaussianNegativeLogLikelihood,
)
from keras_regularize.losses.probabilistic.gaussian_mixture import (
    GaussianMixtureCRPS,
    GaussianMixtureNegativeLogLikelihood,
)
from keras_regularize.losses.probabilistic.mixture_of_experts import MixtureOfExpertsNLL
from keras_regularize.losses.probabilistic.optimal_sigma import OptimalSigmaGaussian
from keras_regularize.losses.probabilistic.probabilistic_calibration import ProbabilisticCalibration
from keras_regularize.losses.proximal_matching import ProximalMatching
from keras_regularize.losses.ranking.list_mle import ListMLE
from keras_regularize.losses.ranking.list_net import ListNet
from keras_regularize.losses.ranking.pairwise_logistic import PairwiseLogistic
from keras_regularize.losses.ranking.patch_loss_ranking import PatchLossRanking
from keras_regularize.losses.ranking.t_batch import TBatch
from keras_regularize.losses.regression.piecewise import BalancedL1, BerHu, Wing
from keras_regularize.losses.regression.pseudo_huber import PseudoHuber
from keras_regularize.losses.regression.tweedie import Tweedie
from keras_regularize.losses.rejection import Rejection
from keras_regularize.losses.risk.cvar import CVaR
from keras_regularize.losses.risk.spectra import spectral_weights
from keras_regularize.losses.risk.spectral_risk import SpectralRisk
from keras_regularize.losses.robust._adaptively_weighted_regularization import (
    adaptively_weighted_regularization,
)
from keras_regularize.losses.robust._adversarial_logit_pairing import adversarial_logit_pairing
from keras_regularize.losses.robust._arow import arow
from keras_regularize.losses.robust._mart import mart
from keras_regularize.losses.robust._smooth_adversarial_comp_sum import smooth_adversarial_comp_sum
from keras_regularize.losses.robust._trades import trades
from keras_regularize.losses.segmentation._class_weights_from_frequencies import (
    class_weights_from_frequencies,
)
from keras_regularize.losses.segmentation._distance_maps import distance_maps
from keras_regularize.losses.segmentation.active_boundary import ActiveBoundary
from keras_regularize.losses.segmentation.boundary_aware import (
    BoundaryAware,
    distance_bins,
    mask_from_distance_bins,
)
from keras_regularize.losses.segmentation.boundary_dou import BoundaryDoU
from keras_regularize.losses.segmentation.cl_dice import ClDice
from keras_regularize.losses.segmentation.combo import Combo
from keras_regularize.losses.segmentation.distance_loss import (
    Boundary,
    DistanceMapCrossentropy,
    HausdorffDistance,
    RegionWise,
)
from keras_regularize.losses.segmentation.exponential_logarithmic import ExponentialLogarithmic
from keras_regularize.losses.segmentation.focal_crossentropy import FocalCrossentropy
from keras_regularize.losses.segmentation.focal_tversky import FocalTversky
from keras_regularize.losses.segmentation.generalized_dice import GeneralizedDice
from keras_regularize.losses.segmentation.generalized_wasserstein_dice import (
    GeneralizedWassersteinDice,
)
from keras_regularize.losses.segmentation.jaccard import Jaccard
from keras_regularize.losses.segmentation.lovasz import LovaszHinge, LovaszSoftmax
from keras_regularize.losses.segmentation.region_loss import RegionLoss
from keras_regularize.losses.segmentation.region_mutual_information import RegionMutualInformation
from keras_regularize.losses.segmentation.segmentation_loss import SegmentationLoss
from keras_regularize.losses.segmentation.sensitivity_specificity import SensitivitySpecificity
from keras_regularize.losses.segmentation.soft_dice import LogCoshDice, SoftDice
from keras_regularize.losses.segmentation.t_loss import TLoss
from keras_regularize.losses.segmentation.topk_crossentropy import TopKCrossentropy
from keras_regularize.losses.segmentation.unified_focal import UnifiedFocal
from keras_regularize.losses.smoothed_ips import SmoothedIPS
from keras_regularize.losses.sparse_recovery_objective import SparseRecoveryObjective
from keras_regularize.losses.text.part_of_speech import PartOfSpeechLoss
from keras_regularize.losses.text.sequence_unlikelihood import SequenceUnlikelihood
from keras_regularize.losses.text.token_unlikelihood import TokenUnlikelihood
from keras_regularize.losses.weighted_sum import WeightedSum

__all__ = [
    "BuresWasserstein",
    "OptimalSigmaGaussian",
    "ClassLoss",
    "Loss",
    "RegionLoss",
    "SegmentationLoss",
    "ACLS",
    "DEPICT",
    "Alignment",
    "BarlowTwins",
    "FDivergenceContrastive",
    "ICon",
    "ClassNeighbors",
    "ClusterNeighbors",
    "CutNeighbors",
    "GaussianNeighbors",
    "IdentityNeighbors",
    "KNNNeighbors",
    "LabelNeighbors",
    "LogitNeighbors",
    "PrecomputedNeighbors",
    "StudentTNeighbors",
    "InfoNCE",
    "NPair",
    "NTXent",
    "SupCon",
    "Triplet",
    "VICReg",
    "center_loss",
    "center_update",
    "DILATE",
    "FLSD",
    "LDAM",
    "MDCA",
    "SSIM",
    "TREGS",
    "ActiveBoundary",
    "AggregateResponse",
    "AnyLoss",
    "BalancedL1",
    "BerHu",
    "BiTempered",
    "Boundary",
    "BoundaryAware",
    "BoundaryDoU",
    "CIoU",
    "CVaR",
    "ClDice",
    "Combo",
    "CompSum",
    "DIoU",
    "DistanceMapCrossentropy",
    "EdgeAwareSmoothness",
    "EnsembleCRPS",
    "Entmax",
    "ExponentialLogarithmic",
    "FocalCrossentropy",
    "FocalTversky",
    "GIoU",
    "GaussianCRPS",
    "GaussianMixtureCRPS",
    "GaussianMixtureNegativeLogLikelihood",
    "GaussianNegativeLogLikelihood",
    "GeneralizedDice",
    "GeneralizedWassersteinDice",
    "HausdorffDistance",
    "Jaccard",
    "ListMLE",
    "ListNet",
    "LogCoshDice",
    "LogitAdjusted",
    "LovaszHinge",
    "LovaszSoftmax",
    "MatchingLoss",
    "MaxSup",
    "MbLS",
    "MeanAbsoluteScaledError",
    "MeanBiasError",
    "NormalizedRootMeanSquaredError",
    "PairwiseLogistic",
    "PatchLossRanking",
    "PolyFocal",
    "PolyLoss",
    "ProbabilisticCalibration",
    "PseudoHuber",
    "Quantile",
    "RegionMutualInformation",
    "RegionWise",
    "Rejection",
    "RelativeAbsoluteError",
    "RelativeRootMeanSquaredError",
    "RelativeSquaredError",
    "RootMeanSquaredError",
    "RootMeanSquaredLogarithmicError",
    "ScaleInvariantLog",
    "ScaleShiftInvariant",
    "Seesaw",
    "SensitivitySpecificity",
    "SmoothedIPS",
    "SoftDTW",
    "SoftDice",
    "Sparsemax",
    "SpectralDecoupling",
    "SpectralRisk",
    "SymmetricCrossentropy",
    "SymmetricMeanAbsolutePercentageError",
    "TBatch",
    "TLoss",
    "TopKCrossentropy",
    "Tweedie",
    "UnifiedFocal",
    "WeightedAbsolutePercentageError",
    "WeightedSum",
    "Wing",
    "ZErrorBCE",
    "ZErrorMSE",
    "ZLoss",
    "adaptively_weighted_regularization",
    "adversarial_logit_pairing",
    "arow",
    "calibrated_derivatives",
    "class_balanced_weights",
    "class_weights_from_frequencies",
    "cluster_target_distribution",
    "conditional_entropy",
    "decoupled_distillation_loss",
    "distance_bins",
    "distance_maps",
    "distillation_loss",
    "early_learning_penalty",
    "enveloping_loss",
    "gaussian_mixture_cdf",
    "homogeneity_loss",
    "mart",
    "mask_from_distance_bins",
    "neural_collapse_between",
    "neural_collapse_within",
    "rationale_invariance",
    "smooth_adversarial_comp_sum",
    "spectral_weights",
    "surrogate_contrastive_loss",
    "trades",
    "weighted_laplacian_penalty",
    "ElasticGradient",
    "MixtureOfExpertsNLL",
    "ProximalMatching",
    "SparseRecoveryObjective",
    "Perceptual",
    "SpectralConvergence",
    "LogSTFTMagnitude",
    "MultiResolutionSTFT",
    "PartOfSpeechLoss",
    "SequenceUnlikelihood",
    "TokenUnlikelihood",
]
