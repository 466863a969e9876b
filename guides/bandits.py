"""
# Decisions against an adversary

Each round one of several actions is taken, and only its loss is seen. If losses are linear in known features, that of
one action says something about all others: least squares gives unbiased estimates. They have a flaw. An action that is
seldom taken gets estimates that are very negative now and then, and *exponential weights*, which most algorithms are made
of, take such an estimate for a reason to jump. Algorithms of adversarial Markov decision processes paid for the cure, more
exploration, with a regret of $K^{2/3}$ in $K$ episodes.

Dai et al. ([arXiv:2301.12942](https://arxiv.org/abs/2301.12942)) have two ways around it, both with $\\sqrt K$:

- `kr.analysis.LogBarrierFTRL` follows the regularized leader with a logarithmic barrier, which bears estimates however
  negative;
- `kr.analysis.magnitude_reduced_losses` lifts what is negative and takes its mean off again, so that estimates keep their
  mean and exponential weights can use them.

This guide runs both, and exponential weights as they are, in a linear bandit and in a small Markov decision process.

**Use this when** you choose again and again, losses may change at will, and you see only what you chose.

**Do not when** losses are drawn from a distribution that stays the same: algorithms that rely on that, such as Thompson
sampling, lose less.
"""

import matplotlib.pyplot as plt
import numpy as np

import keras_regularize as kr

STEPS = 1000
REPEATS = 3

METHODS = ("exponential weights", "exponential weights, reduced estimates", "log barrier")
RATES = (0.1, 0.3, 1.0, 3.0)


class ExponentialWeights:
    """As `kr.analysis.LogBarrierFTRL`, with the entropy in the place of the barrier."""

    def __init__(self, actions, learning_rate, states=1):
        self.rate, self.losses = learning_rate, np.zeros((states, actions))
        self.probabilities = np.full((states, actions), 1 / actions)

    def update(self, losses):
        self.losses = self.losses + losses
        p = np.exp(-self.rate * (self.losses - self.losses.min(axis=-1, keepdims=True)))
        self.probabilities = p / p.sum(axis=-1, keepdims=True)


def policies(method, actions, rate, states=1):
    if method == "log barrier":
        return kr.analysis.LogBarrierFTRL(actions, rate, states)
    return ExponentialWeights(actions, rate, states)


def estimate(method, features, chosen, loss, covariance, draws, scale):
    """The loss of each action, as the method likes it."""
    inverse = np.linalg.inv(covariance + 1e-3 * np.eye(len(covariance)))
    found = kr.analysis.magnitude_reduced_losses(features, chosen, loss, inverse, draws, scale)
    return found.reduced if "reduced" in method else found.unbiased


"""
## A linear bandit

There are 12 actions with features of length 1 in 4 dimensions. The adversary changes its mind: for a quarter of the rounds
one action is good, then another one is, and so on. The regret is what the policy lost more, on average over its draws, than
the best single action in hindsight.
"""

world = np.random.default_rng(1)
features = world.normal(size=(12, 4))
features /= np.linalg.norm(features, axis=1, keepdims=True)


def bandit(method, rate, seed):
    random, adversary = np.random.default_rng(seed), np.random.default_rng(100)
    policy, paid, losses_of_all = policies(method, 12, rate), 0.0, np.zeros(12)
    regrets = np.zeros(STEPS)
    for step in range(STEPS):
        good = features[3 if (4 * step // STEPS) % 2 == 0 else 7]
        losses = 0.5 + features @ (0.1 * adversary.normal(size=4) - 0.35 * good)
        losses = np.clip(losses, 0, 1)
        p = policy.probabilities[0]
        chosen, *draws = random.choice(12, p=p, size=21)
        covariance = np.einsum("a,ai,aj->ij", p, features, features)
        policy.update(
            estimate(
                method,
                features,
                features[chosen],
                losses[chosen],
                covariance,
                features[draws],
                scale=1.0,
            )[None]
        )
        paid += p @ losses
        losses_of_all += losses
        regrets[step] = paid - losses_of_all.min()
    return regrets


def runs(world):
    """Regrets `{method: (rates, repeats, rounds)}`."""
    return {
        method: np.array([[world(method, rate, seed) for seed in range(REPEATS)] for rate in RATES])
        for method in METHODS
    }


def draw(found, title, rounds):
    """Regret over time at each method's best rate, and in the end over rates."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    for method, color in zip(METHODS, ("tab:red", "tab:orange", "tab:blue")):
        last = found[method][..., -1]
        curves = found[method][last.mean(axis=1).argmin()]
        left.plot(curves.mean(axis=0), color=color, label=method)
        left.fill_between(
            np.arange(curves.shape[1]),
            curves.min(axis=0),
            curves.max(axis=0),
            color=color,
            alpha=0.15,
        )
        right.plot(RATES, last.mean(axis=1), "o-", color=color)
        right.fill_between(RATES, last.min(axis=1), last.max(axis=1), color=color, alpha=0.15)
    left.set(xlabel=rounds, ylabel="regret", title=f"{title}, at the best rate of each")
    right.set(xscale="log", xlabel="learning rate", title="At the end, and the range of seeds")
    left.legend()
    figure.tight_layout()
    plt.show()


found = runs(bandit)
draw(found, "Linear bandit", "round")


def summary(found):
    """The least mean regret over rates, and the largest range over seeds."""
    best, widest = {}, {}
    for method in METHODS:
        last = found[method][..., -1]
        best[method] = last.mean(axis=1).min()
        widest[method] = np.ptp(last, axis=1).max()
        print(f"{method:40} least regret {best[method]:6.1f}, widest range {widest[method]:6.1f}")
    return best, widest


best, widest = summary(found)

"""
The least mean regret is {best["exponential weights"]:.0f} for exponential weights,
{best["exponential weights, reduced estimates"]:.0f} with reduced estimates and {best["log barrier"]:.0f} for the log
barrier, after {STEPS:d} rounds, with {REPEATS:d} seeds a point. A regret below 0 is no mistake: who follows a good action
that changes may lose less than any single one. At large rates exponential weights are a gamble that pays here on average;
their range over seeds is {widest["exponential weights"]:.0f} at its widest, with reduced estimates
{widest["exponential weights, reduced estimates"]:.0f}, that of the log barrier {widest["log barrier"]:.0f}.

## A Markov decision process

An episode has three steps. In each there are four states and four actions, and features that are mixtures of four kinds; both
the next state and the loss depend on the mixture alone, so the sum of losses to come, $Q$, is linear in the features for
every policy. Each step has a policy per state, and the estimate of $Q$ of all pairs of states and actions comes from the one
that was visited. The second moments of features under the policy, $\\Sigma$, are known here, as a simulator would give them.
The bonus for exploration, which the proof needs, is left out: transitions here lead everywhere.
"""

HORIZON, STATES, ACTIONS = 3, 4, 4
mixtures = world.dirichlet(0.3 * np.ones(4), size=(HORIZON, STATES, ACTIONS))
moves = mixtures @ world.dirichlet(np.ones(STATES), size=(HORIZON, 1, 4))
episodes = max(STEPS // 2, 1)


def best_total(losses):
    """The least sum of losses of a fixed policy, where `losses` are sums over episodes."""
    values = np.zeros(STATES)
    for h in reversed(range(HORIZON)):
        values = (losses[h] + moves[h] @ values).min(axis=1)
    return values[0]


def decisions(method, rate, seed):
    random, adversary = np.random.default_rng(seed), np.random.default_rng(100)
    policy = [policies(method, ACTIONS, rate, STATES) for _ in range(HORIZON)]
    paid, sums, regrets = 0.0, np.zeros(mixtures.shape[:3]), np.zeros(episodes)
    kinds = adversary.uniform(size=(2, HORIZON, 4, 1))
    for episode in range(episodes):
        kind = kinds[(4 * episode // episodes) % 2]
        noisy = np.clip(kind + 0.1 * adversary.normal(size=kind.shape), 0, 1)
        losses = (mixtures @ noisy[:, None])[..., 0]
        # How often each state is visited, and one episode.
        visits, state, path = np.eye(STATES)[0], 0, []
        reached = []
        for h in range(HORIZON):
            p = policy[h].probabilities
            reached.append(visits[:, None] * p)
            paid += np.sum(reached[h] * losses[h])
            visits = np.einsum("sa,sat->t", reached[h], moves[h])
            action = random.choice(ACTIONS, p=p[state])
            path.append((state, action))
            state = random.choice(STATES, p=moves[h, state, action])
        to_come = 0.0
        for h in reversed(range(HORIZON)):
            to_come += losses[h][path[h]]
            rows, shares = mixtures[h].reshape(-1, 4), reached[h].reshape(-1)
            draws = rows[random.choice(len(rows), p=shares / shares.sum(), size=20)]
            covariance = np.einsum("a,ai,aj->ij", shares, rows, rows)
            scale = float(HORIZON - h)
            estimates = estimate(
                method, rows, mixtures[h][path[h]], to_come, covariance, draws, scale
            )
            policy[h].update(estimates.reshape(STATES, ACTIONS))
        sums += losses
        regrets[episode] = paid - best_total(sums)
    return regrets


found = runs(decisions)
draw(found, "Decision process", "episode")
best_of_process, widest_of_process = summary(found)

"""
Here the least mean regrets are {best_of_process["exponential weights"]:.0f} for exponential weights,
{best_of_process["exponential weights, reduced estimates"]:.0f} with reduced estimates and
{best_of_process["log barrier"]:.0f} for the log barrier. The ranges over seeds overlap, and the log barrier needs the right
rate: at small ones it is the slowest to move. What the methods are made for is a bound that holds without a forced share of
random actions; in a world as small as this one, estimates are seldom as bad as a proof must fear.
"""
