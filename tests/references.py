"""Where public symbols without golden cases are compared with an independent oracle: a test per symbol."""

REFERENCES = {
    "models.SelfTuningNetwork": (
        "tests/models/test_self_tuning_network.py::test_steps_equal_those_of_numpy"
    ),
    "hyper.Hyperparameter": (
        "tests/hyper/test_hyperparameters.py::test_a_hyperparameter_starts_at_its_value"
    ),
    "hyper.unconstrain": ("tests/hyper/test_hyperparameters.py::test_unconstrain_is_the_inverse"),
    "layers.HyperDropout": (
        "tests/layers/test_self_tuning_layers.py::test_dropout_at_a_rate_for_each_sample"
    ),
    "layers.HyperGaussianNoise": (
        "tests/layers/test_self_tuning_layers.py::test_gaussian_noise_of_a_deviation_for_each_sample"
    ),
    **{
        f"utils.{name}": (
            "tests/analysis/test_representation.py::test_walks_lead_to_neighbours_of_neighbours"
        )
        for name in ("GraphBatches", "neighbor_graph")
    },
    "callbacks.RepresentationQuality": (
        "tests/analysis/test_representation.py::test_quality_is_logged_and_collapse_is_seen"
    ),
    **{
        f"analysis.{name}": f"tests/analysis/test_representation.py::{test}"
        for name, test in (
            ("alignment_uniformity", "test_alignment_and_uniformity_by_pairs"),
            ("hungarian_accuracy", "test_no_assignment_is_better"),
            ("knn_accuracy", "test_votes_one_by_one"),
            ("linear_probe", "test_the_probe_is_the_minimum"),
        )
    },
    "layers.NegativeQueue": "tests/models/test_multi_view.py::test_a_queue_of_negatives",
    **{
        f"inverse.{name}": f"tests/inverse/test_{file}.py::{test}"
        for file, name, test in (
            ("transport", "ClassTransport", "test_classes_stay_together"),
            (
                "learned_priors",
                "convex_cnn",
                "test_a_convolutional_prior_is_convex_trains_and_is_saved",
            ),
            ("total_variation_solvers", "operator_norm", "test_the_norm_of_an_operator"),
            ("learned_priors", "plug_and_play", "test_both_solvers_find_the_minimum"),
            (
                "total_variation_solvers",
                "radon_operator",
                "test_projections_are_integrals_over_strips",
            ),
            (
                "transport",
                "sinkhorn",
                "test_sinkhorn_against_the_linear_program_and_in_plain_numbers",
            ),
            (
                "total_variation_solvers",
                "space_variant_reconstruct",
                "test_few_views_need_weights_that_know_the_edges",
            ),
        )
    },
    **{
        f"activations.{name}_threshold": (
            "tests/activations/test_thresholds.py::test_thresholds_by_their_definition"
        )
        for name in ("hard", "soft")
    },
    "analysis.moe_lasso_bound": ("tests/layers/test_mixture_of_experts.py::test_the_bound_by_hand"),
    "callbacks.GammaSchedule": (
        "tests/inverse/test_learned_priors.py::test_gamma_is_halved_stage_by_stage"
    ),
    "callbacks.IncrementalUnfolding": (
        "tests/layers/test_unfolded.py::test_iterations_are_added_one_by_one"
    ),
    "layers.GaussianMixtureOfExperts": (
        "tests/layers/test_mixture_of_experts.py::test_the_parameters_of_the_model"
    ),
    "layers.GradientOf": (
        "tests/inverse/test_learned_priors.py::test_gradient_of_a_quadratic_is_linear"
    ),
    "models.MomentumViews": ("tests/models/test_multi_view.py::test_averages_follow_once_a_step"),
    "models.MultiView": "tests/models/test_multi_view.py::test_views_together_or_one_by_one",
    "layers.CenterLoss": (
        "tests/losses/contrastive/test_contrastive_losses.py::test_centers_follow_the_features"
    ),
    **{
        f"losses.{name}Neighbors": (
            "tests/losses/contrastive/test_icon.py::test_a_preset_is_the_method"
        )
        for name in (
            "Class",
            "Cluster",
            "Gaussian",
            "Identity",
            "KNN",
            "Label",
            "Logit",
            "Precomputed",
            "StudentT",
        )
    },
    "losses.CutNeighbors": (
        "tests/losses/contrastive/test_icon.py::test_reversed_clusters_of_a_graph_are_normalised_cuts"
    ),
    "callbacks.StochasticWeightAveraging": (
        "tests/callbacks/test_stochastic_weight_averaging.py"
        "::test_the_mean_of_the_epochs_from_the_start_on"
    ),
    "optimizers.AdaptiveGradientClipping": (
        "tests/optimizers/test_adaptive_gradient_clipping.py"
        "::test_units_of_every_layout_by_names_and_by_layers"
    ),
    "optimizers.unit_axes": (
        "tests/optimizers/test_adaptive_gradient_clipping.py"
        "::test_units_of_every_layout_by_names_and_by_layers"
    ),
    **{
        f"activations.{name}": (
            "tests/activations/test_infinite_depth.py"
            "::test_the_dual_activation_is_that_of_the_formula"
        )
        for name in ("Hermite", "NormalizedSine", "SingularKernel", "normalized_sine")
    },
    "activations.Entmax": (
        "tests/activations/test_entmax.py::test_symbolic_inputs_and_any_alpha_are_saved"
    ),
    "layers.Entmax": (
        "tests/layers/test_entmax_layer.py::test_value_and_gradients_are_those_of_the_definition"
    ),
    **{
        f"analysis.{name}": f"tests/analysis/test_model_complexity.py::{test}"
        for name, test in (
            (
                "effective_model_complexity",
                "test_a_regression_fits_as_many_samples_as_it_has_weights",
            ),
            ("label_capacity_gap", "test_labels_that_can_be_learnt_leave_more_room"),
        )
    },
    "analysis.infinite_depth_classifier": (
        "tests/analysis/test_kernels.py::test_what_depth_makes_of_an_activation"
    ),
    "analysis.lipschitz_bounds": (
        "tests/analysis/test_margins.py::test_convolutions_have_the_norm_of_their_map"
    ),
    "analysis.accnet_bound": (
        "tests/analysis/test_compositional.py::test_the_bound_equals_the_formula"
    ),
    "analysis.effective_rank": (
        "tests/analysis/test_spectrum.py::test_effective_rank_equals_the_entropy_of_the_shares"
    ),
    "analysis.fisher_diagonal": (
        "tests/analysis/test_fisher_diagonal.py::test_equals_the_squares_of_the_formula"
    ),
    "analysis.gaussian_cutoff": (
        "tests/analysis/test_gaussian_cutoff.py::test_no_other_cut_makes_fewer_mistakes"
    ),
    "analysis.hessian_difference_norm": (
        "tests/analysis/test_curvature.py"
        "::test_the_difference_of_hessians_has_the_norm_of_the_matrix"
    ),
    "analysis.hessian_matrix": (
        "tests/analysis/test_curvature.py::test_columns_of_the_matrix_are_products"
    ),
    "analysis.input_gradient_norm": (
        "tests/analysis/test_gradient_norm.py::test_a_linear_model_has_the_norm_of_the_formula"
    ),
    "analysis.l2_representers": (
        "tests/analysis/test_representers.py::test_contributions_sum_to_the_predictions"
    ),
    "analysis.LossSurface": ("tests/analysis/test_landscape.py::test_what_was_saved_is_loaded"),
    "analysis.curvature_surface": (
        "tests/analysis/test_landscape.py::test_curvature_is_that_of_the_matrix"
    ),
    "analysis.interpolate": (
        "tests/analysis/test_landscape.py::test_the_way_between_two_models_is_that_of_their_weights"
    ),
    "analysis.landscape_convergence": (
        "tests/analysis/test_landscape.py::test_the_curve_has_the_height_of_the_deviation"
    ),
    "analysis.project": ("tests/analysis/test_landscape.py::test_projections_are_coordinates"),
    "analysis.random_direction": (
        "tests/analysis/test_landscape.py::test_directions_have_the_lengths_of_the_filters"
    ),
    "analysis.sample_size_for_tolerance": (
        "tests/analysis/test_landscape.py::test_the_sample_size_is_where_the_curve_stays_below"
    ),
    "callbacks.WeightTrajectory": ("tests/analysis/test_landscape.py::test_a_trajectory_is_kept"),
    "analysis.margin_violation": (
        "tests/analysis/test_max_margin.py::test_violation_is_that_of_the_worst_sample"
    ),
    "analysis.outlier_channels": (
        "tests/analysis/test_outlier_channels.py::test_channels_above_the_ratio_are_found"
    ),
    "analysis.private_bag_means": (
        "tests/analysis/test_private_bag_means.py::test_means_get_the_noise_of_the_guarantee"
    ),
    "analysis.robust_accuracy": (
        "tests/analysis/test_robustness.py::test_a_linear_binary_model_has_the_accuracy_of_the_formula"
    ),
    "analysis.self_distill": (
        "tests/analysis/test_self_distillation.py"
        "::test_generations_of_ridge_regression_follow_the_closed_form"
    ),
    "analysis.spectral_norms": (
        "tests/analysis/test_spectrum.py::test_spectral_norms_are_those_of_the_kernels"
    ),
    "callbacks.EffectiveLearningRate": (
        "tests/callbacks/test_learning_rates.py::test_effective_rates_are_those_of_the_formula"
    ),
    "callbacks.IterativePruning": (
        "tests/callbacks/test_pruning.py::test_a_fixed_part_goes_after_every_epoch_that_keeps_the_bound"
    ),
    "callbacks.LearningRateFinder": (
        "tests/callbacks/test_learning_rates.py::test_the_finder_follows_a_loop_and_restores_everything"
    ),
    "callbacks.OneCycle": (
        "tests/callbacks/test_learning_rates.py::test_rate_and_momentum_are_those_of_a_loop"
    ),
    "callbacks.RelativeImportancePruning": (
        "tests/callbacks/test_relative_importance_pruning.py::test_prunes_the_least_important_of_every_layer"
    ),
    "callbacks.RobustAccuracy": (
        "tests/callbacks/test_callbacks_robustness.py::test_logs_are_those_of_robust_accuracy"
    ),
    "callbacks.ThresholdPruning": (
        "tests/callbacks/test_pruning.py::test_prunes_the_most_that_the_loss_tolerates"
    ),
    "callbacks.WarmRestarts": (
        "tests/callbacks/test_warm_restarts.py"
        "::test_decays_follow_the_formula_and_a_resumed_training_too"
    ),
    "constraints.HardThreshold": "tests/constraints/test_soft_threshold.py::test_hard_map",
    "constraints.attach": "tests/constraints/test_constraints_attach.py::test_acts_in_fit",
    "generative.greedy_continuation": (
        "tests/models/test_implicit_unlikelihood.py::test_continuations_are_those_of_a_loop"
    ),
    "generative.ngram_repeat_mask": (
        "tests/losses/text/test_text_losses.py::test_repeats_are_those_of_a_loop"
    ),
    "generative.SpectralUNet": (
        "tests/models/test_audio_super_resolution.py::test_an_untrained_network_interpolates"
    ),
    "generative.MultiScaleDiscriminator": (
        "tests/models/test_audio_super_resolution.py::test_scales_and_maps_of_the_discriminator"
    ),
    "models.AudioSuperResolution": (
        "tests/models/test_audio_super_resolution.py::test_objectives_are_the_formulas"
    ),
    "models.ModularCaptioner": (
        "tests/models/test_modular_captioner.py::test_logits_and_losses_are_the_formulas"
    ),
    "layers.ModuleController": (
        "tests/layers/test_module_controller.py::test_sequences_are_steps_with_a_growing_history"
    ),
    "losses.Perceptual": (
        "tests/losses/audio/test_audio_losses.py::test_perceptual_loss_is_that_of_the_features"
    ),
    "metrics.Perplexity": (
        "tests/metrics/test_text_metrics.py::test_perplexity_is_that_of_all_tokens"
    ),
    "metrics.TokenRepetition": (
        "tests/metrics/test_text_metrics.py::test_token_repetition_is_that_of_a_loop"
    ),
    "metrics.UniqueTokens": (
        "tests/metrics/test_text_metrics.py::test_unique_tokens_are_counted_once"
    ),
    "models.ImplicitUnlikelihood": (
        "tests/models/test_implicit_unlikelihood.py::test_a_step_is_one_on_fixed_continuations"
    ),
    "generative.sequential_cross_entropy": (
        "tests/generative/test_black_box.py::test_the_sequential_estimate_equals_a_loop"
    ),
    "layers.RandomFourierFeatures": (
        "tests/layers/test_random_fourier_features.py::test_inner_products_are_the_gaussian_kernel"
    ),
    "models.DataEmphasizedELBo": (
        "tests/models/test_data_emphasized_elbo.py::test_a_step_is_that_of_the_formula"
    ),
    "hyper.AccuracyPredictor": (
        "tests/hyper/test_search_bits.py::test_the_predictor_ranks_what_it_has_not_seen"
    ),
    "hyper.l2_penalty": (
        "tests/hyper/test_bilevel.py::test_l2_penalty_with_one_factor_several_or_groups"
    ),
    "hyper.objective": (
        "tests/hyper/test_bilevel.py::test_objective_is_the_loss_of_keras_with_masks_and_weights"
    ),
    "hyper.tune_l2": (
        "tests/hyper/test_bilevel.py::test_tune_l2_finds_the_best_of_a_grid_of_ridge_regressions"
    ),
    "hyper.NetworkAutoencoder": (
        "tests/hyper/test_search_network.py::test_outputs_are_those_of_a_loop_over_the_vector"
    ),
    "hyper.search_network": (
        "tests/hyper/test_search_network.py::test_the_objective_is_that_of_the_formula"
    ),
    "hyper.search_bits": ("tests/hyper/test_search_bits.py::test_finds_the_best_of_all_rows"),
    "hyper.weight_decay_search": (
        "tests/hyper/test_weight_decay_search.py::test_the_search_is_that_of_a_loop"
    ),
    "layers.AccordionBlock": (
        "tests/layers/test_accordion_block.py::test_value_and_penalty_equal_the_formula"
    ),
    "layers.CurricularFace": "tests/layers/test_margin_heads.py::test_curricular_face_equals_a_loop",
    "layers.Cutout": "tests/layers/test_cutout.py::test_every_image_gets_one_square_around_a_centre",
    "layers.DropBlock": "tests/layers/test_drop_block.py::test_blocks_equal_a_loop",
    "layers.DropPath": "tests/layers/test_drop_path.py::test_value_and_gradient_of_given_gates",
    "layers.ElasticQuantized": (
        "tests/models/test_elastic_quantization.py::test_a_choice_equals_fixed_quantizers"
    ),
    "layers.FakeQuantize": (
        "tests/layers/test_quantization.py::test_networks_are_calibrated_trained_saved_and_folded"
    ),
    "layers.GaussianNaiveBayes": (
        "tests/layers/test_gaussian_naive_bayes.py::test_probabilities_are_those_of_the_densities"
    ),
    "layers.LearnedClipQuantizer": (
        "tests/layers/test_quantization.py::test_networks_are_calibrated_trained_saved_and_folded"
    ),
    "layers.MagFace": "tests/layers/test_margin_heads.py::test_mag_face_equals_a_loop",
    "layers.NestedDropout": (
        "tests/layers/test_nested_dropout.py"
        "::test_prefixes_of_a_batch_are_as_frequent_as_the_formula_says"
    ),
    "layers.NeuralCollapse": (
        "tests/layers/test_neural_collapse_layer.py::test_fit_adds_both_parts_and_trains_the_centres"
    ),
    "layers.ObservationDropout": (
        "tests/layers/test_observation_dropout.py::test_values_and_mask_of_given_draws"
    ),
    "layers.QuantizedInputs": (
        "tests/layers/test_quantization.py::test_networks_are_calibrated_trained_saved_and_folded"
    ),
    "layers.QuantizedWeights": (
        "tests/layers/test_quantization.py::test_the_gradient_of_a_step_is_scaled"
    ),
    "layers.RationaleDense": (
        "tests/layers/test_rationale_dense.py::test_two_batches_equal_a_loop"
    ),
    "layers.Reparameterized": (
        "tests/layers/test_reparameterized.py"
        "::test_runs_with_the_effective_weights_and_stores_the_others"
    ),
    "layers.ShakeDrop": "tests/layers/test_shake_drop.py::test_value_and_gradient_of_given_draws",
    "layers.calibrate_quantizers": (
        "tests/layers/test_quantization.py::test_ranges_are_those_of_a_loop"
    ),
    "generative.scheduled_pseudo_huber": (
        "tests/generative/test_pseudo_huber.py::test_a_delta_for_each_sample_equals_the_formula"
    ),
    "losses.BalancedL1": (
        "tests/losses/regression/test_robust_losses.py::test_piecewise_losses_equal_the_formula"
    ),
    "losses.BerHu": (
        "tests/losses/regression/test_robust_losses.py::test_piecewise_losses_equal_the_formula"
    ),
    "losses.Wing": (
        "tests/losses/regression/test_robust_losses.py::test_piecewise_losses_equal_the_formula"
    ),
    "losses.BiTempered": (
        "tests/losses/test_bi_tempered.py::test_equals_the_formula_with_a_normalization_by_halving"
    ),
    "losses.CVaR": "tests/losses/test_spectral_risk.py::test_cvar_is_the_mean_of_the_worst",
    "losses.class_balanced_weights": (
        "tests/losses/test_imbalance_losses.py::test_class_balanced_weights_equal_a_loop"
    ),
    "losses.conditional_entropy": (
        "tests/losses/test_conditional_entropy.py::test_equals_a_sum_in_double_precision"
    ),
    "metrics.BlackBoxSquare": "tests/metrics/test_black_box_square.py::test_equals_a_loop_over_pairs",
    "metrics.Coverage": "tests/metrics/test_selective.py::test_equal_a_loop",
    "metrics.GroupAccuracy": "tests/metrics/test_groups.py::test_equals_accuracy_per_group",
    "metrics.SelectiveAccuracy": "tests/metrics/test_selective.py::test_equal_a_loop",
    "models.ALP": (
        "tests/models/test_paired_losses.py"
        "::test_objective_is_the_weighted_mean_of_the_loss_and_the_penalties"
    ),
    "models.ART": "tests/models/test_art.py::test_a_step_adds_the_gradient_of_the_formula",
    "analysis.sign_autoencoder_limit": (
        "tests/models/test_autoencoders.py::test_the_limit_is_that_of_orthonormal_rows_and_tight_frames"
    ),
    "generative.ClosedFormDiffusion": (
        "tests/generative/test_closed_form.py::test_the_object_gives_what_the_functions_give"
    ),
    "generative.DiffusionSchedule": (
        "tests/generative/test_diffusion_schedules.py::test_a_target_gives_the_data_back"
    ),
    "generative.langevin": (
        "tests/models/test_sure_score.py::test_langevin_draws_from_the_prior_and_the_posterior"
    ),
    "models.DenoisingDiffusion": (
        "tests/models/test_diffusion.py"
        "::test_the_loss_is_the_weighed_error_of_the_estimate_of_the_data"
    ),
    "models.PhysicsInformedDiffusion": (
        "tests/models/test_physics_informed.py::test_what_is_added_equals_the_formula"
    ),
    "models.SUREScore": "tests/models/test_sure_score.py::test_a_step_equals_the_formula",
    "generative.AutoencoderSampler": (
        "tests/models/test_autoencoders.py::test_chains_have_the_covariance_of_the_density"
    ),
    "layers.JacobianPenalty": (
        "tests/models/test_autoencoders.py::test_the_penalty_estimates_the_norm_of_a_linear_map"
    ),
    "models.DenoisingAutoencoder": (
        "tests/models/test_autoencoders.py::test_the_best_linear_autoencoder_is_found"
    ),
    "models.JacobianNuclearNorm": (
        "tests/models/test_autoencoders.py::test_singular_values_of_a_denoiser_are_soft_thresholded"
    ),
    "models.SignAutoencoder": (
        "tests/models/test_autoencoders.py::test_a_sign_autoencoder_is_that_of_the_formula"
    ),
    "analysis.sufficiency_gap": (
        "tests/analysis/test_sufficiency_gap.py::test_it_is_the_loss_above_that_of_the_best_scores"
    ),
    "analysis.contrastive_rademacher": (
        "tests/analysis/test_contrastive_rademacher.py::test_the_supremum_is_that_of_a_search"
    ),
    "models.SpaceFolding": "tests/models/test_space_folding.py::test_the_objective_is_that_of_a_loop",
    "analysis.global_folding": (
        "tests/analysis/test_folding.py::test_the_whole_is_that_of_pairs_of_different_classes"
    ),
    "models.FriendlySAM": (
        "tests/models/test_friendly_sam.py::test_five_steps_on_different_batches_follow_the_formula"
    ),
    "models.AdvCompSum": (
        "tests/models/test_paired_losses.py"
        "::test_objective_is_the_weighted_mean_of_the_loss_and_the_penalties"
    ),
    "models.CoTeaching": (
        "tests/models/test_co_teaching.py"
        "::test_a_step_is_that_on_the_samples_the_other_network_chose"
    ),
    "models.Distillation": (
        "tests/models/test_distillation.py::test_the_objective_equals_the_formula"
    ),
    "models.ELRPlus": "tests/models/test_elr_plus.py::test_steps_follow_the_formula",
    "models.ElasticQuantization": (
        "tests/models/test_elastic_quantization.py::test_the_objective_equals_the_formula"
    ),
    "models.EnsLoss": "tests/models/test_ens_loss.py::test_a_step_is_that_of_the_drawn_slopes",
    "generative.adapt_then_unlearn": (
        "tests/models/test_generative_adversarial.py::test_a_gan_forgets_what_it_was_shown"
    ),
    "models.GAN": "tests/models/test_generative_adversarial.py::test_a_step_is_that_of_the_formulas",
    "models.ConditionalGAN": (
        "tests/models/test_generative_adversarial.py::"
        "test_the_penalty_of_a_linear_generator_is_that_of_its_condition"
    ),
    "models.DomainTransferNetwork": (
        "tests/models/test_generative_adversarial.py::"
        "test_domain_transfer_draws_and_leaves_the_features_as_they_are"
    ),
    "models.RepulsionGAN": (
        "tests/models/test_generative_adversarial.py::"
        "test_repulsion_moves_away_and_is_saved_with_its_references"
    ),
    "generative.UNetGenerator": (
        "tests/models/test_generative_adversarial.py::test_the_networks_of_image_translation"
    ),
    "generative.PatchDiscriminator": (
        "tests/models/test_generative_adversarial.py::test_the_networks_of_image_translation"
    ),
    "models.Ensemble": "tests/models/test_ensemble.py::test_means",
    "models.FreeAdversarialTraining": (
        "tests/models/test_free_adversarial_training.py"
        "::test_replays_follow_the_algorithm_and_the_perturbation_stays"
    ),
    "models.GradAlign": (
        "tests/models/test_input_gradients.py::test_a_step_of_alignment_is_that_of_the_formula"
    ),
    "models.InputGradientPenalty": (
        "tests/models/test_input_gradients.py::test_a_step_of_the_penalty_is_that_of_the_formula"
    ),
    "models.RDrop": "tests/models/test_r_drop.py::test_the_objective_equals_the_formula",
    "models.RegularizedModel": "tests/models/test_bare_wrapper.py::test_equals_plain_fit",
    "models.RobustSelfSupervised": (
        "tests/models/test_robust_self_supervised.py::test_a_step_equals_the_formula"
    ),
    "models.SRSTAWR": "tests/models/test_srst_awr.py::test_the_objective_equals_the_formula",
    "models.SupNotMIWAE": (
        "tests/models/test_missing_values.py::test_bound_predictions_and_imputations_equal_the_formula"
    ),
    "models.WeightPenalty": (
        "tests/models/test_weight_penalty.py::test_a_regularizer_on_kernels_equals_keras_own"
    ),
    "models.WithLabels": (
        "tests/models/test_with_labels.py::test_labels_act_in_fit_and_not_at_inference"
    ),
    "optimizers.Masked": (
        "tests/optimizers/test_masked.py::test_masked_weights_are_zero_and_the_others_train_alone"
    ),
    "regularizers.CauchySchwarz": (
        "tests/regularizers/test_cauchy_schwarz.py::test_all_forms_equal_the_inequality_in_float64"
    ),
    "regularizers.attach": (
        "tests/regularizers/test_regularizers_attach.py::test_counts_at_once_and_in_fit"
    ),
    "utils.AllBut": "tests/test_where.py::test_accepted_forms",
    "utils.with_index": "tests/models/test_train_step.py::test_columns_reach_hooks_and_metrics",
    "losses.ClDice": (
        "tests/losses/segmentation/test_pixel_losses.py"
        "::test_centre_line_dice_is_that_of_a_skeleton_by_other_means"
    ),
    "losses.FocalCrossentropy": (
        "tests/losses/segmentation/test_pixel_losses.py"
        "::test_focal_crossentropy_is_that_of_keras_and_of_the_formula"
    ),
    "losses.distance_maps": (
        "tests/losses/segmentation/test_distance_losses.py::test_maps_are_those_of_the_definition"
    ),
    "losses.BoundaryAware": (
        "tests/losses/segmentation/test_statistical_losses.py"
        "::test_bins_of_distances_and_the_mask_they_make"
    ),
    "losses.distance_bins": (
        "tests/losses/segmentation/test_statistical_losses.py"
        "::test_bins_of_distances_and_the_mask_they_make"
    ),
    "losses.mask_from_distance_bins": (
        "tests/losses/segmentation/test_statistical_losses.py"
        "::test_bins_of_distances_and_the_mask_they_make"
    ),
    "losses.class_weights_from_frequencies": (
        "tests/losses/segmentation/test_statistical_losses.py::test_rare_classes_weigh_more"
    ),
    "losses.WeightedSum": "tests/losses/test_weighted_sum.py::test_the_sum_of_dice_and_cross_entropy",
    "metrics.DiceScore": (
        "tests/metrics/test_dice_score.py::test_the_score_is_that_of_counts_over_batches"
    ),
    "metrics.BoundaryIoU": (
        "tests/metrics/test_boundary_metrics.py::test_boundary_iou_is_that_of_eroded_masks"
    ),
    "metrics.HausdorffDistance95": (
        "tests/metrics/test_boundary_metrics.py::test_hausdorff_distance_is_that_of_all_pairs"
    ),
    "metrics.PanopticQuality": (
        "tests/metrics/test_panoptic_quality.py::test_the_quality_is_that_of_all_pairs"
    ),
    "layers.TLossEndpoint": (
        "tests/layers/test_t_loss_endpoint.py::test_values_and_gradients_are_those_of_the_density"
    ),
    "models.ScheduledLoss": (
        "tests/models/test_scheduled_loss.py::test_compiled_steps_follow_both_schedules"
    ),
    "metrics.MeanReciprocalRank": (
        "tests/metrics/test_ranking_metrics.py::test_the_mean_over_queries_is_that_of_a_loop"
    ),
    "metrics.RecallAtK": (
        "tests/metrics/test_ranking_metrics.py::test_the_mean_over_queries_is_that_of_a_loop"
    ),
    "losses.EdgeAwareSmoothness": (
        "tests/losses/test_images.py::test_smoothness_is_that_of_a_loop_and_of_no_scale"
    ),
    "losses.SSIM": ("tests/losses/test_images.py::test_similarity_is_that_of_all_windows"),
    "losses.ScaleShiftInvariant": (
        "tests/losses/test_images.py::test_the_best_scale_and_shift_are_those_of_least_squares"
    ),
    "metrics.AbsoluteRelativeError": (
        "tests/metrics/test_image_metrics.py"
        "::test_errors_of_depths_are_means_over_images_of_means_over_measured_pixels"
    ),
    "metrics.PeakSignalToNoiseRatio": (
        "tests/metrics/test_image_metrics.py::test_the_signal_to_noise_ratio_is_a_mean_over_images"
    ),
    "metrics.SSIM": ("tests/losses/test_images.py::test_similarity_is_that_of_all_windows"),
    "metrics.ThresholdAccuracy": (
        "tests/metrics/test_image_metrics.py"
        "::test_errors_of_depths_are_means_over_images_of_means_over_measured_pixels"
    ),
    "layers.GaussianMixture": (
        "tests/losses/test_probabilistic.py::test_the_head_gives_out_mixtures_that_are_trained_and_saved"
    ),
    "losses.GaussianMixtureCRPS": (
        "tests/losses/test_probabilistic.py::test_mixtures_have_the_scores_of_the_definitions"
    ),
    "losses.GaussianMixtureNegativeLogLikelihood": (
        "tests/losses/test_probabilistic.py::test_mixtures_have_the_scores_of_the_definitions"
    ),
    "losses.gaussian_mixture_cdf": (
        "tests/losses/test_probabilistic.py::test_mixtures_have_the_scores_of_the_definitions"
    ),
    "analysis.ConformalQuantiles": "tests/analysis/test_recalibration.py::test_the_conformal_index",
    "analysis.QuantileRecalibration": (
        "tests/analysis/test_recalibration.py::test_the_maps_are_those_of_the_definitions"
    ),
    "models.RecalibratedTraining": (
        "tests/models/test_recalibrated_training.py::test_the_objective_equals_the_formula"
    ),
    "analysis.TargetShift": (
        "tests/analysis/test_distribution_shift.py::test_the_choice_is_that_of_a_loop"
    ),
    "analysis.covariate_shift_weights": (
        "tests/analysis/test_distribution_shift.py::test_odds_of_a_classifier_are_the_ratio_of_densities"
    ),
    "layers.InverseForm": ("tests/layers/test_inverse_form.py::test_the_loss_is_that_of_the_tiles"),
    "layers.inverse_form_network": (
        "tests/layers/test_inverse_form.py::test_the_loss_is_that_of_the_tiles"
    ),
    "layers.train_inverse_form": (
        "tests/layers/test_inverse_form.py::test_a_network_tells_by_how_much_boundaries_are_moved"
    ),
    "layers.ConditionalBoundary": (
        "tests/layers/test_conditional_boundary.py::test_the_terms_are_those_of_a_loop"
    ),
    "metrics.MaximumCalibrationError": (
        "tests/metrics/test_calibration.py::test_value_matches_the_definition"
    ),
    "analysis.IsotonicCalibration": (
        "tests/analysis/test_post_hoc_calibration.py::test_isotonic_maps_are_those_of_every_class"
    ),
    "analysis.TemperatureScaling": (
        "tests/analysis/test_post_hoc_calibration.py::test_the_calibrated_model_predicts_what_the_formula_says"
    ),
    "analysis.VectorScaling": (
        "tests/analysis/test_post_hoc_calibration.py::test_vector_scaling_of_one_column_is_logistic_regression"
    ),
    "analysis.reliability_diagram": (
        "tests/analysis/test_post_hoc_calibration.py::test_the_diagram_is_that_of_a_loop"
    ),
    "analysis.ConformalClassifier": (
        "tests/analysis/test_conformal.py::test_sets_are_those_of_the_definition"
    ),
    "analysis.ConformalRegressor": (
        "tests/analysis/test_conformal.py::test_intervals_are_those_of_the_definition"
    ),
    "analysis.LikelihoodRatioQuantile": (
        "tests/analysis/test_conformal.py::test_without_regularization_it_is_quantile_regression"
    ),
    "analysis.weighted_conformal_quantile": (
        "tests/analysis/test_conformal.py::test_the_weighted_quantile_is_that_of_a_loop"
    ),
    "analysis.local_intrinsic_dimension": (
        "tests/regularizers/test_features.py::test_local_intrinsic_dimension_is_that_of_the_set"
    ),
    "layers.SurrogateRepresentation": ("tests/models/test_srl.py::test_the_path_equals_a_loop"),
    "models.SRL": ("tests/models/test_srl.py::test_the_first_epoch_collects_and_the_next_move"),
    "metrics.ShotMAE": "tests/models/test_srl.py::test_bins_and_shots_equal_a_loop",
    "utils.bin_edges": "tests/models/test_srl.py::test_bins_and_shots_equal_a_loop",
    "utils.bin_labels": "tests/models/test_srl.py::test_bins_and_shots_equal_a_loop",
    "models.ManifoldSmooth": ("tests/models/test_manifold_smooth.py::test_two_steps_equal_a_loop"),
    "layers.StudentTClustering": "tests/models/test_depict.py::test_student_t_equals_a_loop",
    "models.DEPICT": "tests/models/test_depict.py::test_the_losses_of_a_step",
    "models.HPM": "tests/models/test_hpm.py::test_the_losses_of_a_step",
    "analysis.minimax_linear_representation": (
        "tests/analysis/test_representations.py"
        "::test_closed_forms_have_the_regret_that_they_promise"
    ),
    "analysis.randomized_linear_representation": (
        "tests/analysis/test_representations.py"
        "::test_closed_forms_have_the_regret_that_they_promise"
    ),
    "models.RepresentationGame": (
        "tests/analysis/test_representations.py::test_the_game_comes_to_its_closed_form"
    ),
    "analysis.LogBarrierFTRL": "tests/analysis/test_bandits.py::test_the_policy_is_the_minimum",
    "analysis.KernelClassifier": (
        "tests/analysis/test_kernels.py::test_the_classifier_solves_for_its_coefficients"
    ),
    "layers.RandomFeatures": (
        "tests/analysis/test_random_features.py::test_layers_are_those_of_the_theory"
    ),
    "callbacks.GradientStatistics": (
        "tests/callbacks/test_gradient_statistics.py::test_the_logs_are_those_of_the_function"
    ),
    "models.JODIE": "tests/models/test_jodie.py::test_a_window_equals_a_loop_over_interactions",
    "analysis.max_softmax_score": (
        "tests/analysis/test_out_of_distribution.py::test_scores_of_outputs_are_those_of_scipy"
    ),
    "analysis.entropy_score": (
        "tests/analysis/test_out_of_distribution.py::test_scores_of_outputs_are_those_of_scipy"
    ),
    "analysis.energy_score": (
        "tests/analysis/test_out_of_distribution.py::test_scores_of_outputs_are_those_of_scipy"
    ),
    "analysis.MahalanobisScore": (
        "tests/analysis/test_out_of_distribution.py::test_mahalanobis_score_is_that_of_scikit_learn"
    ),
    "analysis.NearestNeighborScore": (
        "tests/analysis/test_out_of_distribution.py::test_nearest_neighbor_score_is_that_of_scikit_learn"
    ),
    "attacks.AutoAttack": (
        "tests/attacks/test_auto_attack.py::test_an_ensemble_is_as_strong_as_its_strongest_member"
    ),
    "attacks.FAB": ("tests/attacks/test_auto_attack.py::test_fab_is_that_of_a_loop"),
    "attacks.Square": (
        "tests/attacks/test_auto_attack.py::test_pyramids_are_those_of_the_definition"
    ),
    "analysis.auto_attack_accuracy": (
        "tests/attacks/test_auto_attack.py::test_the_measure_drops_samples_as_they_are_fooled"
    ),
    "analysis.corrupt": ("tests/analysis/test_corruptions.py::test_blur_is_that_of_scipy"),
    "analysis.CORRUPTIONS": ("tests/analysis/test_corruptions.py::test_what_holds_for_all"),
    "analysis.robustness_report": (
        "tests/analysis/test_robustness_report.py::test_the_report_is_made_of_its_parts"
    ),
    **{
        name: f"tests/models/test_vae.py::{test}"
        for name, test in (
            ("callbacks.KLAnnealing", "test_schedules"),
            ("layers.GaussianSampling", "test_sampling_adds_the_divergence"),
            ("models.VAE", "test_a_step_is_that_of_the_formula"),
        )
    },
    **{
        name: f"tests/models/test_mixture_vae.py::{test}"
        for name, test in (
            ("generative.invertible_chart", "test_a_coupling_is_undone"),
            ("inverse.manifold_descent", "test_a_linear_chart_is_projected_on"),
            ("layers.AffineCoupling", "test_a_coupling_is_undone"),
            ("models.MixtureVAE", "test_bounds_responsibilities_and_the_loss_of_a_step"),
        )
    },
    **{
        name: f"tests/losses/test_bures_wasserstein.py::{test}"
        for name, test in (
            ("analysis.bures_critical_values", "test_critical_values_are_those_of_all_choices"),
            ("metrics.FrechetDistance", "test_the_metric_is_the_distance_of_all_features"),
        )
    },
}
