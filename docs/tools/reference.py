"""The reference, grouped by family, from the public names and their docstrings.

`catalog.md` lists every public name once, by what it is for; `api/<family>.md` has the entries of one family,
across the namespaces; `api/namespaces.md` leads from a place in Keras to the names that go there.
"""

import functools
import importlib
import inspect
import re

import keras_regularize as kr

#: What a reader looks for, and what is found there: folders of a namespace, or single names.
FAMILIES = {
    "Base classes": [
        "models.RegularizedModel",
        "models.WithLabels",
        "models.WeightPenalty",
        "losses.Loss",
        "losses.ClassLoss",
        "losses.SegmentationLoss",
        "losses.RegionLoss",
        "attacks.Attack",
        "optimizers.OptimizerWrapper",
    ],
    "Generative adversarial networks": [
        "models.generative_adversarial",
        "losses.generative_adversarial",
        "losses.condition_lipschitz",
        "losses.domain_transfer",
        "generative.image_translation",
        "generative.unlearning",
        "generative.parameter_repulsion",
    ],
    "Flat minima": ["models.sharpness"],
    "Curvature and landscapes": [
        "analysis.curvature",
        "analysis.landscape",
        "analysis.model_complexity",
        "callbacks.WeightTrajectory",
        "callbacks.GradientStatistics",
    ],
    "Kernels of networks": [
        "analysis.kernels",
        "analysis.margins",
        "analysis.random_features",
        "layers.RandomFeatures",
        "activations.hermite",
        "activations.Hermite",
        "activations.singular_kernel",
        "activations.SingularKernel",
        "activations.normalized_sine",
        "activations.NormalizedSine",
    ],
    "Explanations by training points": ["analysis.representers"],
    "Adversarial robustness": [
        "models.adversarial",
        "losses.robust",
        "attacks",
        "analysis.robustness",
        "analysis.CORRUPTIONS",
        "analysis.input_gradient_norm",
        "analysis.gradient_norm_bound",
        "callbacks.RobustAccuracy",
    ],
    "Few labels": [
        "models.VAT",
        "models.RobustSelfSupervised",
        "losses.conditional_entropy",
        "analysis.private_bag_means",
        "losses.AggregateResponse",
        "models.ManifoldSmooth",
        "losses.weighted_laplacian_penalty",
    ],
    "Noisy labels": ["losses.noisy_labels", "models.noisy_labels", "utils.with_index"],
    "Unequal classes": ["losses.imbalance"],
    "Calibration": [
        "losses.calibration",
        "metrics.calibration",
        "analysis.calibration",
        "analysis.out_of_distribution",
    ],
    "Conformal prediction": ["analysis.conformal"],
    "Forecasts and regression": [
        "losses.forecasting",
        "losses.regression",
    ],
    "Probabilistic regression": [
        "losses.probabilistic",
        "layers.GaussianMixture",
        "metrics.ProbabilisticCalibrationError",
        "models.RecalibratedTraining",
    ],
    "Distribution shift": ["analysis.distribution_shift"],
    "Self-supervised and contrastive learning": [
        "losses.contrastive",
        "layers.CenterLoss",
        "layers.NegativeQueue",
        "models.MultiView",
        "models.MomentumViews",
        "analysis.representation",
        "analysis.sufficiency_gap",
        "callbacks.RepresentationQuality",
        "utils.GraphBatches",
        "utils.neighbor_graph",
    ],
    "Segmentation": [
        "losses.segmentation",
        "losses.WeightedSum",
        "layers.segmentation",
        "models.ScheduledLoss",
        "metrics.BoundaryIoU",
        "metrics.DiceScore",
        "metrics.HausdorffDistance95",
        "metrics.PanopticQuality",
        "ops.euclidean_distance_transform",
    ],
    "Boxes": ["losses.boxes"],
    "Ranking": ["losses.ranking", "metrics.ranking"],
    "Inverse problems": [
        "inverse",
        "regularizers.TotalVariation",
        "losses.ElasticGradient",
        "losses.SparseRecoveryObjective",
        "losses.ProximalMatching",
        "layers.UnfoldedISTA",
        "layers.UnfoldedIHT",
        "layers.LearnedProximal",
        "layers.GradientOf",
        "activations.soft_threshold",
        "activations.hard_threshold",
        "callbacks.GammaSchedule",
        "callbacks.IncrementalUnfolding",
    ],
    "Mixtures of experts": [
        "layers.GaussianMixtureOfExperts",
        "losses.MixtureOfExpertsNLL",
        "analysis.moe_lasso_bound",
    ],
    "Depth and images": ["losses.images", "metrics.images"],
    "Class probabilities": [
        "losses.classification",
        "activations",
        "layers.Entmax",
        "layers.LegendreLink",
        "losses.MatchingLoss",
        "models.EnsLoss",
        "models.FactoredSphericalClassifier",
    ],
    "Margins and features": [
        "layers.heads",
        "losses.features",
        "analysis.naive_bayes_head",
        "analysis.contrastive_rademacher",
        "models.FunctionalEntropyRegularization",
    ],
    "Features of a batch": [
        "regularizers.features",
        "losses.TREGS",
        "analysis.local_intrinsic_dimension",
    ],
    "Imbalanced regression": [
        "models.SRL",
        "layers.SurrogateRepresentation",
        "losses.enveloping_loss",
        "losses.homogeneity_loss",
        "losses.surrogate_contrastive_loss",
        "metrics.ShotMAE",
        "utils.bin_edges",
        "utils.bin_labels",
    ],
    "Clusters and hidden patches": [
        "losses.DEPICT",
        "losses.cluster_target_distribution",
        "layers.StudentTClustering",
        "models.DEPICT",
        "models.HPM",
        "models.hard_patch_mask",
        "losses.PatchLossRanking",
    ],
    "Representations for many tasks": [
        "analysis.many_tasks",
        "models.RepresentationGame",
        "losses.TBatch",
        "utils.t_batches",
        "models.JODIE",
    ],
    "Groups, risk and abstention": [
        "losses.risk",
        "losses.Rejection",
        "losses.SmoothedIPS",
        "analysis.off_policy_bound",
        "models.GroupDRO",
        "models.Prospect",
        "metrics.GroupAccuracy",
        "metrics.WorstGroupAccuracy",
        "metrics.Coverage",
        "metrics.SelectiveAccuracy",
    ],
    "Boosting": ["models.GrowNet", "layers.BoostedLearner"],
    "Bandits": ["analysis.bandits"],
    "Teachers and ensembles": [
        "models.Distillation",
        "models.Ensemble",
        "models.RDrop",
        "losses.distillation",
        "analysis.self_distillation",
        "analysis.fit_power_law",
        "callbacks.StochasticWeightAveraging",
    ],
    "Continual learning": [
        "regularizers.anchors",
        "analysis.fisher_diagonal",
    ],
    "Orthogonal and diverse filters": ["regularizers.orthogonality", "regularizers.MHE"],
    "Size of weights": [
        "regularizers.NormLoss",
        "regularizers.Spectral",
        "regularizers.SpectralDecoupling",
        "regularizers.ActivationKurtosis",
        "regularizers.attach",
        "constraints.attach",
        "utils.AllBut",
        "layers.AccordionBlock",
        "analysis.spectrum",
        "analysis.compositional",
        "analysis.outlier_channels",
    ],
    "Weight decay and the learning rate": [
        "optimizers.DecoupledWeightDecay",
        "optimizers.IrrelevantWeightDecay",
        "optimizers.LAWN",
        "optimizers.AdaptiveGradientClipping",
        "optimizers.OneCycle",
        "optimizers.normalized_weight_decay",
        "optimizers.unit_axes",
        "callbacks.OneCycle",
        "callbacks.WarmRestarts",
        "callbacks.LearningRateFinder",
        "callbacks.EffectiveLearningRate",
        "analysis.effective_learning_rate",
        "analysis.max_margin",
        "hyper.weight_decay_search",
    ],
    "Learned hyperparameters": [
        "hyper.bilevel",
        "models.DataEmphasizedELBo",
        "hyper.data_emphasized_elbo",
        "hyper.gaussian_prior_kl",
        "hyper.optimal_prior_variance",
        "layers.RandomFourierFeatures",
        "models.SelfTuningNetwork",
        "layers.self_tuning",
        "hyper.Hyperparameter",
        "hyper.constrain",
        "hyper.unconstrain",
        "hyper.perturbation_entropy",
    ],
    "Sparse networks": [
        "regularizers.HyperSparse",
        "constraints.sparsity",
        "optimizers.Masked",
        "optimizers.LOBSTER",
        "optimizers.Proximal",
        "models.ART",
        "callbacks.IterativePruning",
        "callbacks.ThresholdPruning",
        "callbacks.RelativeImportancePruning",
        "analysis.relative_importance",
        "hyper.NetworkAutoencoder",
        "hyper.search_network",
    ],
    "Few bits": [
        "regularizers.cauchy_schwarz",
        "regularizers.WeightDistribution",
        "layers.quantization",
        "constraints.quantization",
        "models.ElasticQuantization",
        "hyper.AccuracyPredictor",
        "hyper.search_bits",
    ],
    "Reparameterized weights": ["layers.reparameterization"],
    "Augmentation and noise": [
        "layers.noise",
        "ops.cutout",
        "generative.supnotmiwae_loss",
        "models.SupNotMIWAE",
        "analysis.gaussian_cutoff",
    ],
    "Autoencoders": [
        "models.autoencoders",
        "layers.JacobianPenalty",
        "analysis.autoencoders",
        "analysis.folding",
        "models.SpaceFolding",
        "generative.AutoencoderSampler",
        "activations.straight_through_sign",
    ],
    "Variational autoencoders": [
        "models.VAE",
        "layers.GaussianSampling",
        "callbacks.KLAnnealing",
        "losses.OptimalSigmaGaussian",
        "generative.gaussian_kl",
        "generative.balanced_vae_loss",
        "generative.balanced_mse_update",
        "models.MixtureVAE",
        "generative.mixture_vae_loss",
        "generative.invertible_chart",
        "layers.AffineCoupling",
        "inverse.chart_gradient",
        "inverse.manifold_descent",
        "losses.BuresWasserstein",
        "regularizers.BuresWasserstein",
        "analysis.bures_critical_values",
        "metrics.FrechetDistance",
    ],
    "Diffusion models": [
        "models.diffusion",
        "generative.ClosedFormDiffusion",
        "generative.closed_form_sample",
        "generative.closed_form_score",
        "generative.closed_form_velocity",
        "generative.nearest_neighbor_score",
        "generative.langevin",
    ],
    "Text": [
        "losses.text",
        "metrics.text",
        "models.ImplicitUnlikelihood",
        "layers.ModuleController",
        "models.ModularCaptioner",
        "generative.greedy_continuation",
        "generative.implicit_unlikelihood_loss",
        "generative.ngram_repeat_mask",
    ],
    "Audio": [
        "losses.audio",
        "losses.Perceptual",
        "metrics.LogSpectralDistance",
        "generative.feature_matching_loss",
        "generative.SpectralUNet",
        "generative.MultiScaleDiscriminator",
        "models.AudioSuperResolution",
    ],
    "Black-box generation": ["generative", "metrics.BlackBoxSquare"],
}

#: Families that a search for their names would not show first: "SAM" begins "sample" too.
SOUGHT = ("Flat minima",)

#: Other words for a family, by which a reader may look for it.
ALSO = {
    "Base classes": "Subclass these for losses, attacks, optimizers and train steps of your own.",
    "Generative adversarial networks": "GAN, WGAN-GP, R1, pix2pix, conditional generation, machine unlearning.",
    "Flat minima": "Sharpness-aware minimization, loss landscapes, generalization.",
    "Curvature and landscapes": "Hessian, eigenvalues, trace, loss surfaces, mode connectivity, noise scale.",
    "Boosting": "Gradient boosting, ensembles, tabular data, corrective steps.",
    "Bandits": "Regret, follow the regularized leader, exponential weights, adversarial losses.",
    "Kernels of networks": "Neural tangent kernel, Gaussian processes, infinite width and depth.",
    "Explanations by training points": "Representer points, influence, explainability.",
    "Adversarial robustness": "Adversarial examples, adversarial training, attacks, robust accuracy.",
    "Few labels": "Semi-supervised learning, unlabelled data, consistency, weak labels.",
    "Noisy labels": "Label noise, wrong annotations, outliers, memorization.",
    "Unequal classes": "Class imbalance, long-tailed data, rare classes, F1 score.",
    "Calibration": "Confidence, label smoothing, temperature scaling, uncertainty, out-of-distribution data.",
    "Conformal prediction": "Prediction sets and intervals, coverage, uncertainty, covariate shift.",
    "Probabilistic regression": "Predicted distributions, prediction intervals, quantiles, recalibration, "
    "mixture density networks, CRPS.",
    "Distribution shift": "Importance weights, target shift, label shift, covariate shift, domain adaptation.",
    "Learned hyperparameters": "Bilevel optimization, hypergradients, tuning a penalty, dropout or noise on "
    "validation data, architecture search.",
    "Self-supervised and contrastive learning": "SimCLR, CLIP, MoCo, BYOL, VICReg, metric learning, triplets, "
    "embeddings, t-SNE, clustering, linear probes.",
    "Class probabilities": "Alternatives to softmax and cross-entropy.",
    "Imbalanced regression": "Long-tailed labels, few-shot regions, age estimation.",
    "Clusters and hidden patches": "Deep clustering, autoencoders, masked autoencoders, self-supervised learning.",
    "Representations for many tasks": "Multi-task learning, minimax regret, dynamic networks, recommendation.",
    "Features of a batch": "Dimensional collapse, uniformity, dispersion, effective rank.",
    "Forecasts and regression": "Time series, quantiles, intervals, outliers, time warping, percentage errors.",
    "Segmentation": "Masks, Dice and Jaccard, boundaries, distance maps, small objects.",
    "Boxes": "Object detection, bounding box regression, intersection over union.",
    "Ranking": "Learning to rank, retrieval, recommendation, relevance of lists.",
    "Inverse problems": "Compressed sensing, tomography, total variation, Lasso, unfolding, plug-and-play, "
    "optimal transport.",
    "Mixtures of experts": "Gated regression, mixtures of regressions.",
    "Depth and images": "Monocular depth, restoration, super-resolution, image quality.",
    "Margins and features": "Metric learning, face recognition, neural collapse, multimodal networks.",
    "Groups, risk and abstention": "Distribution shift, fairness, worst groups, selective prediction, bandits.",
    "Teachers and ensembles": "Knowledge distillation, weight averaging, dropout consistency.",
    "Continual learning": "Catastrophic forgetting, fine-tuning, anchors, elastic weight consolidation.",
    "Orthogonal and diverse filters": "Decorrelation, redundancy, conditioning.",
    "Size of weights": "Norms, Lipschitz constants, compression, weight penalties.",
    "Weight decay and the learning rate": "AdamW, schedules, warm restarts, gradient clipping.",
    "Sparse networks": "Pruning, sparsity, lottery tickets.",
    "Few bits": "Quantization-aware training, binary and ternary weights, mixed precision.",
    "Reparameterized weights": "Weights as functions of other weights.",
    "Augmentation and noise": "Cutout, dropout, stochastic depth, missing data, smoothing.",
    "Autoencoders": "Contractive and denoising autoencoders, scores of densities, nuclear norm of Jacobians, "
    "codes of bits.",
    "Variational autoencoders": "VAE, beta-VAE, KL annealing, free bits, posterior collapse, manifold learning, "
    "invertible networks, Wasserstein distance of normal distributions, FID.",
    "Diffusion models": "Score matching, DDPM, DDIM, EDM, denoising, physics-informed generation, inverse "
    "problems, Stein's unbiased risk estimate, sampling without training.",
    "Text": "Language models, repetition, perplexity, unlikelihood, reinforcement learning, captions.",
    "Audio": "Waveforms, spectrograms, super-resolution, vocoders, perceptual losses.",
    "Black-box generation": "Generators trained through a score that is not differentiable.",
}

#: Namespaces whose names are pieces to build with, no methods: a page for each.
TOOLS = ("autodiff", "numerics", "ops", "utils", "testing")

GOES_INTO = {
    "losses": "`compile(loss=…)`; functions are called",
    "regularizers": "`kernel_regularizer=…`, `activity_regularizer=…`",
    "constraints": "`kernel_constraint=…`",
    "activations": "`activation=…`",
    "layers": "the model",
    "optimizers": "`compile(optimizer=…)`",
    "metrics": "`compile(metrics=[…])`",
    "models": "around the model: `SAM(model, …)`",
    "attacks": "called: `attack(model, x, y)`, or an argument of models",
    "callbacks": "`fit(callbacks=[…])`",
    "analysis": "called on a trained model",
    "generative": "called",
    "inverse": "called, with a model or an operator",
    "hyper": "called, around whole trainings",
    "ops": "called on tensors",
    "utils": "called on labels; `where=…`",
}


def members(namespace: str) -> dict[str, object]:
    """The public names of a namespace, those of a module without `__all__` being what it defines itself."""
    module = importlib.import_module(f"keras_regularize.{namespace}")
    own = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    return {name: getattr(module, name) for name in getattr(module, "__all__", own)}


@functools.cache
def public_names() -> dict[str, object]:
    """`{"losses.MaxSup": MaxSup, …}`: every public name."""
    return {
        f"{namespace}.{name}": symbol
        for namespace in kr.__all__
        if not namespace.startswith("_")
        for name, symbol in members(namespace).items()
    }


def family(key: str) -> str | None:
    """The family of a public name: by itself, else by its folder or module, else by its namespace."""
    module = getattr(public_names()[key], "__module__", "").removeprefix("keras_regularize.")
    namespace = key.split(".")[0]
    for place in (key, ".".join(module.split(".")[:2]), namespace):
        for title, entries in FAMILIES.items():
            if place in entries:
                return title
    return f"kr.{namespace}" if namespace in TOOLS else None


@functools.cache
def families() -> dict[str, list[str]]:
    """The public names of each family, in the order of `FAMILIES` and of the alphabet; then those of the tools."""
    groups: dict[str, list[str]] = {title: [] for title in FAMILIES}
    groups |= {f"kr.{namespace}": [] for namespace in TOOLS}
    for key in sorted(public_names(), key=lambda key: key.split(".")[1].lower()):
        title = family(key)
        if title is None:
            raise ValueError(f"`FAMILIES` in {__file__} has no place for kr.{key}")
        groups[title].append(key)
    return {title: keys for title, keys in groups.items() if keys}


def slug(title: str) -> str:
    """The name of a family's page."""
    return re.sub(r"[^a-z]+", "_", title.lower().removeprefix("kr.")).strip("_")


def section(symbol: object, name: str) -> str:
    """The first paragraph of a docstring's section such as `Cost:`, on one line; empty if there is none."""
    pattern = rf"^{name}:\s+(.*?)(?=\n\n|\n(?:Args|Returns|Raises|Cost|Example|References?):|\Z)"
    found = re.search(pattern, inspect.getdoc(symbol) or "", re.MULTILINE | re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def summary(symbol: object) -> str:
    """The first paragraph of a docstring."""
    if not (inspect.isclass(symbol) or inspect.isroutine(symbol) or inspect.ismodule(symbol)):
        return ""  # The docstring of a constant is that of its class.
    return " ".join((inspect.getdoc(symbol) or "").split("\n\n")[0].split()).rstrip(".:")


def paper(symbol: object) -> str:
    """Title and year of the first paper of `Reference:`, linked where it is on arXiv."""
    reference = section(symbol, "References?")
    found = re.search(r"""\*([^*]+)\*|"([^"]+)"|“([^”]+)”""", reference)
    if not found:
        return ""
    title = next(group for group in found.groups() if group).rstrip(".,")
    # What follows the title, up to the next one, holds the venue, the year and the identifier.
    rest = re.split(r"""[*"“]""", reference[found.end() :])[0]
    arxiv = re.search(r"arXiv:(\d{4}\.\d{4,5}|[a-z.-]+/\d{7})", rest)
    year = re.search(r"(?<![\d:.])(?:18|19|20)\d\d(?![\d.]\d)", rest)
    text = f"[{title}](https://arxiv.org/abs/{arxiv[1]})" if arxiv else title
    return f"{text}, {year[0]}" if year else text


def cost(symbol: object) -> str:
    """The first statement of `Cost:`."""
    return re.split(r"(?<=[\w)`$])[.;] ", section(symbol, "Cost"))[0].rstrip(".")


def table(head: str, rows: list[tuple[str, ...]]) -> list[str]:
    """A table in markdown."""
    rule = "|" + "---|" * head.count(",") + "---|"
    lines = ["| " + " | ".join(row) + " |" for row in ([escape(c) for c in row] for row in rows)]
    return ["| " + head.replace(", ", " | ") + " |", rule, *lines, ""]


def escape(cell: str) -> str:
    """A cell whose bars do not end it. Those in code spans never do."""
    parts = cell.replace("\\|", r"\Vert ").split("`")
    parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
    return "`".join(parts)


def link(key: str, folder: str = "") -> str:
    """A name that links to its entry."""
    return f"[`{key}`]({folder}{slug(family(key))}.md#keras_regularize.{key})"


def catalog() -> str:
    """Every public name by what it is for."""
    lines = [
        "# Catalog\n",
        "Every public name by what it is for, with its paper. A title leads to its family, with costs; "
        "[namespaces](api/namespaces.md) leads from a place in Keras to what goes there.\n",
    ]
    for title, keys in families().items():
        lines.append(f"## [{title}](api/{slug(title)}.md)\n")
        rows = []
        for key in keys:
            parts = summary(public_names()[key]), paper(public_names()[key])
            rows.append((link(key, "api/"), "<br>".join(part for part in parts if part)))
        lines += table("name, in short", rows)
    return "\n".join(lines)


def namespaces() -> str:
    """Every public name by where it goes."""
    lines = ["# Namespaces\n", "A folder per place where Keras lets you plug something in.\n"]
    for namespace in sorted({key.split(".")[0] for key in public_names()}):
        module = importlib.import_module(f"keras_regularize.{namespace}")
        lines.append(f"## kr.{namespace} {{ #keras_regularize.{namespace} }}\n")
        if namespace in GOES_INTO:
            lines.append(f"Goes into: {GOES_INTO[namespace]}.\n")
        elif inspect.getdoc(module):
            lines.append(inspect.getdoc(module).split("\n\n")[0] + "\n")
        names = [key for key in public_names() if key.split(".")[0] == namespace]
        links = [link(key).replace(f"`{namespace}.", "`") for key in sorted(names, key=str.lower)]
        lines.append(", ".join(links) + "\n")
    return "\n".join(lines)


def family_page(title: str, uses: dict[str, list[str]]) -> str:
    """The entries of a family; `uses` has, for some names, links to where they are at work."""
    keys = families()[title]
    lines = ["---\nsearch:\n  boost: 4\n---\n"] if title in SOUGHT else []
    lines += [f"# {title}\n", ALSO.get(title, "") + "\n"]
    if title.removeprefix("kr.") in TOOLS:
        lines.append(
            inspect.getdoc(importlib.import_module(f"keras_regularize.{title[3:]}")) + "\n"
        )
    rows = [
        (f"[`{key}`](#keras_regularize.{key})", summary(symbol), cost(symbol))
        for key, symbol in ((key, public_names()[key]) for key in keys)
    ]
    head = "name, in short, cost"
    if not any(row[-1] for row in rows):
        head, rows = "name, in short", [row[:-1] for row in rows]
    lines += table(head, rows)
    for key in keys:
        lines.append(f"::: keras_regularize.{key}\n    options:\n      heading: {key}\n")
        lines[-1] += f"      toc_label: {key}\n"
        if key in uses:
            lines += ["**At work**\n", '<div class="uses" markdown>\n', *uses[key], "\n</div>\n"]
    return "\n".join(lines)
