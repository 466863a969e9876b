"""Layers that regularize: noise, heads, and wrappers that reparameterize another layer's weights."""

from keras_regularize.layers.accordion_block import AccordionBlock
from keras_regularize.layers.affine_coupling import AffineCoupling
from keras_regularize.layers.boosted_learner import BoostedLearner
from keras_regularize.layers.entmax import Entmax
from keras_regularize.layers.heads.ada_face import AdaFace
from keras_regularize.layers.heads.arc_face import ArcFace
from keras_regularize.layers.heads.center_loss import CenterLoss
from keras_regularize.layers.heads.cos_face import CosFace
from keras_regularize.layers.heads.curricular_face import CurricularFace
from keras_regularize.layers.heads.gaussian_mixture import GaussianMixture
from keras_regularize.layers.heads.gaussian_mixture_of_experts import GaussianMixtureOfExperts
from keras_regularize.layers.heads.gaussian_naive_bayes import GaussianNaiveBayes
from keras_regularize.layers.heads.legendre_link import LegendreLink
from keras_regularize.layers.heads.mag_face import MagFace
from keras_regularize.layers.heads.neural_collapse import NeuralCollapse
from keras_regularize.layers.heads.rationale_dense import RationaleDense
from keras_regularize.layers.jacobian_penalty import JacobianPenalty
from keras_regularize.layers.learned_proximal import GradientOf, LearnedProximal
from keras_regularize.layers.module_controller import ModuleController
from keras_regularize.layers.negative_queue import NegativeQueue
from keras_regularize.layers.noise.cutout import Cutout
from keras_regularize.layers.noise.drop_block import DropBlock
from keras_regularize.layers.noise.drop_path import DropPath
from keras_regularize.layers.noise.gaussian_sampling import GaussianSampling
from keras_regularize.layers.noise.nested_dropout import NestedDropout, nested_dropout_probabilities
from keras_regularize.layers.noise.observation_dropout import ObservationDropout
from keras_regularize.layers.noise.shake_drop import ShakeDrop
from keras_regularize.layers.quantization._calibrate import calibrate_quantizers
from keras_regularize.layers.quantization._fake_quantize import fake_quantize
from keras_regularize.layers.quantization._learned_clip_quantize import learned_clip_quantize
from keras_regularize.layers.quantization.elastic_quantized import ElasticQuantized
from keras_regularize.layers.quantization.fake_quantize import FakeQuantize
from keras_regularize.layers.quantization.learned_clip_quantizer import (
    LearnedClipQuantizer,
    QuantizedInputs,
)
from keras_regularize.layers.quantization.quantized_weights import QuantizedWeights
from keras_regularize.layers.random_features import RandomFeatures
from keras_regularize.layers.random_fourier_features import RandomFourierFeatures
from keras_regularize.layers.reparameterization.bit_weights import BitWeights
from keras_regularize.layers.reparameterization.reparameterized import Reparameterized
from keras_regularize.layers.reparameterization.weight_compander import WeightCompander
from keras_regularize.layers.reparameterization.weight_conditioning import WeightConditioning
from keras_regularize.layers.segmentation.conditional_boundary import ConditionalBoundary
from keras_regularize.layers.segmentation.inverse_form import (
    InverseForm,
    inverse_form_network,
    train_inverse_form,
)
from keras_regularize.layers.segmentation.t_loss_endpoint import TLossEndpoint
from keras_regularize.layers.self_tuning.hyper_noise import HyperDropout, HyperGaussianNoise
from keras_regularize.layers.self_tuning.self_tuning_conv2d import SelfTuningConv2D
from keras_regularize.layers.self_tuning.self_tuning_dense import SelfTuningDense
from keras_regularize.layers.self_tuning.self_tuning_embedding import SelfTuningEmbedding
from keras_regularize.layers.student_t_clustering import StudentTClustering
from keras_regularize.layers.surrogate_representation import SurrogateRepresentation
from keras_regularize.layers.unfolded import UnfoldedIHT, UnfoldedISTA

__all__ = [
    "AffineCoupling",
    "GaussianSampling",
    "AccordionBlock",
    "AdaFace",
    "ArcFace",
    "BitWeights",
    "ConditionalBoundary",
    "CenterLoss",
    "CosFace",
    "CurricularFace",
    "Cutout",
    "DropBlock",
    "DropPath",
    "ElasticQuantized",
    "Entmax",
    "FakeQuantize",
    "GaussianMixture",
    "GaussianNaiveBayes",
    "HyperDropout",
    "HyperGaussianNoise",
    "InverseForm",
    "JacobianPenalty",
    "LearnedClipQuantizer",
    "LegendreLink",
    "MagFace",
    "NegativeQueue",
    "NestedDropout",
    "NeuralCollapse",
    "ObservationDropout",
    "QuantizedInputs",
    "QuantizedWeights",
    "RandomFourierFeatures",
    "RationaleDense",
    "Reparameterized",
    "SelfTuningConv2D",
    "SelfTuningDense",
    "SelfTuningEmbedding",
    "ShakeDrop",
    "StudentTClustering",
    "SurrogateRepresentation",
    "TLossEndpoint",
    "WeightCompander",
    "WeightConditioning",
    "calibrate_quantizers",
    "fake_quantize",
    "inverse_form_network",
    "learned_clip_quantize",
    "nested_dropout_probabilities",
    "train_inverse_form",
    "BoostedLearner",
    "RandomFeatures",
    "GaussianMixtureOfExperts",
    "GradientOf",
    "LearnedProximal",
    "UnfoldedIHT",
    "UnfoldedISTA",
    "ModuleController",
]
