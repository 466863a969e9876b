import numpy as np
import pytest

from keras_regularize.analysis import off_policy_bound

RNG = np.random.default_rng(0)
POLICY, LOGGED = RNG.dirichlet(np.ones(3), size=(2, 40))
BASE = {
    "policy": POLICY,
    "propensities": LOGGED,
    "actions": RNG.integers(0, 3, 40),
    "costs": -RNG.random(40),
    "kl": 2.0,
    "alpha": 0.8,
    "num_samples": 4000,
}


def bound(**changes):
    return off_policy_bound(**{**BASE, **changes})


def test_the_best_lambda_is_the_default_and_terms_are_monotone():
    best = bound()
    # The terms of lambda: `a / lam + b lam`, the least of which is `2 sqrt(a b)`.
    one, two = bound(lam=1.0), bound(lam=2.0)
    a = (2.0 + np.log(4 / 0.05)) / 4000
    b = two - one + a / 2
    assert best == pytest.approx(one - a - b + 2 * np.sqrt(a * b))
    assert best < min(bound(lam=lam) for lam in np.geomspace(1e-3, 1, 50))
    assert bound(kl=3.0) > best > bound(delta=0.5)
    assert bound(num_samples=400) > best


def test_enough_data_leaves_risk_and_bias():
    chosen = np.arange(40), BASE["actions"]
    for alpha in (0.0, 0.6, 1.0):
        risk = np.mean(BASE["costs"] * POLICY[chosen] / LOGGED[chosen] ** alpha)
        bias = 1 - np.mean(np.sum(POLICY * LOGGED ** (1 - alpha), axis=1))
        got = bound(alpha=alpha, num_samples=10**14)
        assert got == pytest.approx(risk + bias, abs=1e-5)
    assert bias == pytest.approx(0)  # Inverse propensities are unbiased.


def test_actions_that_were_never_taken_are_finite():
    assert np.isfinite(bound(propensities=np.eye(3)[BASE["actions"]]))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"alpha": 1.2}, "`alpha` must be"),
        ({"kl": -1}, "`kl` must be"),
        ({"delta": 0}, "`delta` must be a number above 0"),
        ({"lam": 0}, "`lam` must be a number above 0"),
        ({"num_samples": 0}, "`num_samples` must be"),
        ({"costs": -BASE["costs"]}, "`costs` must lie in \\[-1, 0\\]"),
        ({"actions": BASE["actions"] + 1}, "`actions` must be integers from 0 to 2. Received"),
        ({"actions": BASE["actions"] - 1}, "`actions` must be integers from 0 to 2. Received"),
        ({"actions": BASE["actions"] + 0.5}, "`actions` must be integers from 0 to 2. Received"),
        ({"actions": np.zeros((40, 1))}, "actions and costs \\(n,\\).*actions.shape=\\(40, 1\\)"),
    ],
)
def test_errors(change, message):
    with pytest.raises(ValueError, match=message):
        bound(**change)
