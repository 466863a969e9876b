"""Where public symbols without golden cases are compared with an independent oracle: a test per symbol."""

REFERENCES = {
    "analysis.robust_accuracy": (
        "tests/analysis/test_robustness.py::test_a_linear_binary_model_has_the_accuracy_of_the_formula"
    ),
    "constraints.attach": "tests/constraints/test_constraints_attach.py::test_acts_in_fit",
    "layers.Cutout": "tests/layers/test_cutout.py::test_every_image_gets_one_square_around_a_centre",
    "layers.Reparameterized": (
        "tests/layers/test_reparameterized.py"
        "::test_runs_with_the_effective_weights_and_stores_the_others"
    ),
    "losses.class_balanced_weights": (
        "tests/losses/test_imbalance_losses.py::test_class_balanced_weights_equal_a_loop"
    ),
    "metrics.Coverage": "tests/metrics/test_selective.py::test_equal_a_loop",
    "metrics.SelectiveAccuracy": "tests/metrics/test_selective.py::test_equal_a_loop",
    "models.RegularizedModel": "tests/models/test_bare_wrapper.py::test_equals_plain_fit",
    "models.WeightPenalty": (
        "tests/models/test_weight_penalty.py::test_a_regularizer_on_kernels_equals_keras_own"
    ),
    "models.WithLabels": (
        "tests/models/test_with_labels.py::test_labels_act_in_fit_and_not_at_inference"
    ),
    "regularizers.attach": (
        "tests/regularizers/test_regularizers_attach.py::test_counts_at_once_and_in_fit"
    ),
    "utils.with_index": "tests/models/test_train_step.py::test_columns_reach_hooks_and_metrics",
}
