"""Where public symbols without golden cases are compared with an independent oracle: a test per symbol."""

REFERENCES = {
    "constraints.attach": "tests/constraints/test_constraints_attach.py::test_acts_in_fit",
    "models.RegularizedModel": "tests/models/test_bare_wrapper.py::test_equals_plain_fit",
    "regularizers.attach": (
        "tests/regularizers/test_regularizers_attach.py::test_counts_at_once_and_in_fit"
    ),
}
