"""Wrap a model, then `compile` and `fit` as usual. Wrappers nest and read as they act: `SAM(VAT(model))`."""

from keras_regularize.models._hard_patch_mask import hard_patch_mask
from keras_regularize.models.adversarial.adv_comp_sum import AdvCompSum
from keras_regularize.models.adversarial.adversarial_training import AdversarialTraining
from keras_regularize.models.adversarial.alp import ALP
from keras_regularize.models.adversarial.arow import ARoW
from keras_regularize.models.adversarial.elle import ELLE
from keras_regularize.models.adversarial.free_adversarial_training import FreeAdversarialTraining
from keras_regularize.models.adversarial.grad_align import GradAlign
from keras_regularize.models.adversarial.input_gradient_penalty import InputGradientPenalty
from keras_regularize.models.adversarial.mart import MART
from keras_regularize.models.adversarial.srst_awr import SRSTAWR
from keras_regularize.models.adversarial.trades import TRADES
from keras_regularize.models.art import ART
from keras_regularize.models.autoencoders.contractive_autoencoder import ContractiveAutoencoder
from keras_regularize.models.autoencoders.denoising_autoencoder import DenoisingAutoencoder
from keras_regularize.models.autoencoders.jacobian_nuclear_norm import JacobianNuclearNorm
from keras_regularize.models.autoencoders.mixture_vae import MixtureVAE
from keras_regularize.models.autoencoders.sign_autoencoder import SignAutoencoder
from keras_regularize.models.autoencoders.vae import VAE
from keras_regularize.models.data_emphasized_elbo import DataEmphasizedELBo
from keras_regularize.models.depict import DEPICT
from keras_regularize.models.diffusion.denoising_diffusion import DenoisingDiffusion
from keras_regularize.models.diffusion.physics_informed import PhysicsInformedDiffusion
from keras_regularize.models.diffusion.sure_score import SUREScore
from keras_regularize.models.distillation import Distillation
from keras_regularize.models.elastic_quantization import ElasticQuantization
from keras_regularize.models.ens_loss import EnsLoss
from keras_regularize.models.ensemble import Ensemble
from keras_regularize.models.factored_spherical_classifier import FactoredSphericalClassifier
from keras_regularize.models.functional_entropy import FunctionalEntropyRegularization
from keras_regularize.models.generative_adversarial.adversarial_model import AdversarialModel
from keras_regularize.models.generative_adversarial.audio_super_resolution import (
    AudioSuperResolution,
)
from keras_regularize.models.generative_adversarial.conditional_gan import ConditionalGAN
from keras_regularize.models.generative_adversarial.domain_transfer import DomainTransferNetwork
from keras_regularize.models.generative_adversarial.gan import GAN
from keras_regularize.models.generative_adversarial.pix2pix import Pix2Pix
from keras_regularize.models.generative_adversarial.repulsion_gan import RepulsionGAN
from keras_regularize.models.group_dro import GroupDRO
from keras_regularize.models.grow_net import GrowNet
from keras_regularize.models.hpm import HPM
from keras_regularize.models.implicit_unlikelihood import ImplicitUnlikelihood
from keras_regularize.models.jodie import JODIE
from keras_regularize.models.manifold_smooth import ManifoldSmooth
from keras_regularize.models.modular_captioner import ModularCaptioner
from keras_regularize.models.multi_view import MomentumViews, MultiView
from keras_regularize.models.noisy_labels.co_teaching import CoTeaching
from keras_regularize.models.noisy_labels.elr import ELR
from keras_regularize.models.noisy_labels.elr_plus import ELRPlus
from keras_regularize.models.prospect import Prospect
from keras_regularize.models.r_drop import RDrop
from keras_regularize.models.recalibrated_training import RecalibratedTraining
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.models.representation_game import RepresentationGame
from keras_regularize.models.robust_self_supervised import RobustSelfSupervised
from keras_regularize.models.scheduled_loss import ScheduledLoss
from keras_regularize.models.self_tuning_network import SelfTuningNetwork
from keras_regularize.models.sharpness.amp import AMP
from keras_regularize.models.sharpness.asam import ASAM
from keras_regularize.models.sharpness.awp import AWP
from keras_regularize.models.sharpness.flooding import Flooding
from keras_regularize.models.sharpness.friendly_sam import FriendlySAM
from keras_regularize.models.sharpness.gradient_regularization import GradientRegularization
from keras_regularize.models.sharpness.gsam import GSAM
from keras_regularize.models.sharpness.ignite import IGNITE
from keras_regularize.models.sharpness.look_sam import LookSAM
from keras_regularize.models.sharpness.momentum_sam import MomentumSAM
from keras_regularize.models.sharpness.sam import SAM
from keras_regularize.models.space_folding import SpaceFolding
from keras_regularize.models.srl import SRL
from keras_regularize.models.supnotmiwae import SupNotMIWAE
from keras_regularize.models.vat import VAT
from keras_regularize.models.weight_penalty import WeightPenalty
from keras_regularize.models.with_labels import WithLabels

__all__ = [
    "AudioSuperResolution",
    "ImplicitUnlikelihood",
    "AdversarialModel",
    "ConditionalGAN",
    "DomainTransferNetwork",
    "GAN",
    "RepulsionGAN",
    "Pix2Pix",
    "ALP",
    "AMP",
    "ART",
    "ASAM",
    "AWP",
    "DEPICT",
    "ELLE",
    "ELR",
    "GSAM",
    "HPM",
    "IGNITE",
    "JODIE",
    "MART",
    "SAM",
    "SRL",
    "SelfTuningNetwork",
    "SRSTAWR",
    "TRADES",
    "ScheduledLoss",
    "VAT",
    "ARoW",
    "AdvCompSum",
    "AdversarialTraining",
    "CoTeaching",
    "DataEmphasizedELBo",
    "ContractiveAutoencoder",
    "DenoisingAutoencoder",
    "DenoisingDiffusion",
    "PhysicsInformedDiffusion",
    "SUREScore",
    "JacobianNuclearNorm",
    "SignAutoencoder",
    "Distillation",
    "ELRPlus",
    "ElasticQuantization",
    "EnsLoss",
    "Ensemble",
    "FactoredSphericalClassifier",
    "Flooding",
    "FreeAdversarialTraining",
    "FriendlySAM",
    "FunctionalEntropyRegularization",
    "GradAlign",
    "GradientRegularization",
    "GroupDRO",
    "GrowNet",
    "InputGradientPenalty",
    "LookSAM",
    "ManifoldSmooth",
    "ModularCaptioner",
    "MomentumSAM",
    "MomentumViews",
    "MultiView",
    "Prospect",
    "RDrop",
    "RecalibratedTraining",
    "RegularizedModel",
    "RepresentationGame",
    "RobustSelfSupervised",
    "SpaceFolding",
    "SupNotMIWAE",
    "WeightPenalty",
    "WithLabels",
    "hard_patch_mask",
    "MixtureVAE",
    "VAE",
]
