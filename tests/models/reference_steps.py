"""Train steps in NumPy float64, written from the formulas, that nest as the models do.

`Network` is a dense network with its own backward pass. A method is up to three functions, those of its
level; `sgd_step` composes a chain of them. Nothing here knows of Keras: it is what the models are tested
against.
"""

from typing import Any, NamedTuple

import numpy as np


class Batch(NamedTuple):
    """Inputs and class ids (-1: unlabelled), and what searches found, by method."""

    x: Any
    y: Any
    found: dict


class Network:
    """Dense layers with tanh between them, cross-entropy on logits, and a squared penalty on kernels.

    Weights are the list `[kernel, bias, kernel, bias, …]`.
    """

    def __init__(self, l2=0.0):
        self.l2 = l2

    def forward(self, weights, x):
        """What every layer was given, and at the end the logits."""
        activations = [np.asarray(x, "float64")]
        for i in range(0, len(weights), 2):
            z = activations[-1] @ weights[i] + weights[i + 1]
            activations.append(np.tanh(z) if i + 2 < len(weights) else z)
        return activations

    def logits(self, weights, x):
        return self.forward(weights, x)[-1]

    def backward(self, weights, activations, upstream):
        """`(gradients of the weights, gradient of the inputs)` for a gradient of the logits."""
        gradients = [None] * len(weights)
        for i in range(len(weights) - 2, -1, -2):
            gradients[i] = activations[i // 2].T @ upstream
            gradients[i + 1] = upstream.sum(0)
            upstream = upstream @ weights[i].T
            if i:
                upstream = upstream * (1.0 - activations[i // 2] ** 2)
        return gradients, upstream

    def input_gradient(self, weights, x, of_logits):
        """Gradient of a summed function of the logits, given by its own gradient, for every sample."""
        activations = self.forward(weights, x)
        return self.backward(weights, activations, of_logits(activations[-1]))[1]

    def objective(self, weights, batch, held):
        """`(loss, gradients)`: mean over labelled rows, and the penalty."""
        activations = self.forward(weights, batch.x)
        values, upstream = cross_entropy(activations[-1], batch.y)
        count = max((batch.y >= 0).sum(), 1)
        gradients, _ = self.backward(weights, activations, upstream / count)
        for i in range(0, len(weights), 2):
            gradients[i] = gradients[i] + 2.0 * self.l2 * weights[i]
        penalty = self.l2 * sum((w**2).sum() for w in weights[::2])
        return values.sum() / count + penalty, gradients


# Functions of logits, per sample, with their gradients


def log_softmax(z):
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def cross_entropy(z, y):
    labelled = (y >= 0)[:, None]
    log_p, target = log_softmax(z), np.eye(z.shape[-1])[np.maximum(y, 0)]
    return -(labelled * target * log_p).sum(-1), labelled * (np.exp(log_p) - target)


def divergence(z, moved):
    """`KL(p‖q)` and its gradients with respect to the logits of `p` and of `q`."""
    log_p, log_q = log_softmax(z), log_softmax(moved)
    p, q = np.exp(log_p), np.exp(log_q)
    value = (p * (log_p - log_q)).sum(-1)
    return value, p * (log_p - log_q - value[:, None]), q - p


def entropy(z):
    log_p = log_softmax(z)
    value = -(np.exp(log_p) * log_p).sum(-1)
    return value, -np.exp(log_p) * (log_p + value[:, None])


# Lists of weights


def moved(weights, directions, scale=1.0):
    return [w + scale * d for w, d in zip(weights, directions)]


def inner_product(first, second):
    return sum((a * b).sum() for a, b in zip(first, second))


def norm(directions):
    return np.sqrt(inner_product(directions, directions))


# Methods


class Method:
    """A method that changes nothing."""

    def prepare(self, net, weights, batch):
        """What a search finds, once a step."""

    def objective(self, net, inner):
        """An objective `(weights, batch, held) -> (loss, gradients)` made from the one inside.

        What it takes for a constant is evaluated at the weights `held`.
        """
        return inner

    def rule(self, gradient, of_objective):
        """A function `weights -> gradients` made from the one inside.

        `of_objective(weights, held)` is the gradient without any rule.
        """
        return gradient


class SAM(Method):
    def __init__(self, rho):
        self.rho = rho

    def rule(self, gradient, of_objective):
        def perturbed(weights):
            first = gradient(weights)
            return gradient(moved(weights, first, self.rho / norm(first)))

        return perturbed


class ASAM(Method):
    def __init__(self, rho, eta):
        self.rho, self.eta = rho, eta

    def rule(self, gradient, of_objective):
        def perturbed(weights):
            return gradient(self.moved(weights, gradient(weights)))

        return perturbed

    def moved(self, weights, gradients):
        scales = [np.abs(w) + self.eta if w.ndim > 1 else np.ones_like(w) for w in weights]
        scaled = [t * g for t, g in zip(scales, gradients)]
        return moved(weights, [t * s for t, s in zip(scales, scaled)], self.rho / norm(scaled))


class GSAM(Method):
    """With `eta`, the ascent is that of `ASAM`."""

    def __init__(self, rho, alpha, eta=None):
        self.rho, self.alpha, self.eta = rho, alpha, eta

    def rule(self, gradient, of_objective):
        def surrogate(weights):
            first = gradient(weights)
            above = moved(weights, first, self.rho / norm(first))
            if self.eta is not None:
                above = ASAM(self.rho, self.eta).moved(weights, first)
            second = gradient(above)
            along = inner_product(first, second) / inner_product(second, second)
            orthogonal = moved(first, second, -along)
            return moved(second, orthogonal, -self.alpha)

        return surrogate


class FriendlySAM(Method):
    """Its mean of gradients is kept from step to step."""

    def __init__(self, rho, sigma=1.0, momentum=0.9):
        self.rho, self.sigma, self.momentum, self.mean = rho, sigma, momentum, None

    def rule(self, gradient, of_objective):
        def perturbed(weights):
            first = gradient(weights)
            direction, mean = first, first
            if self.mean is not None:
                direction = moved(first, self.mean, -self.sigma)
                mean = moved(moved(first, first, -self.momentum), self.mean, self.momentum)
            self.mean = mean
            return gradient(moved(weights, direction, self.rho / norm(direction)))

        return perturbed


class AMP(Method):
    def __init__(self, epsilon, inner_learning_rate, inner_steps):
        self.epsilon, self.rate, self.steps = epsilon, inner_learning_rate, inner_steps

    def rule(self, gradient, of_objective):
        def perturbed(weights):
            delta = [np.zeros_like(w) for w in weights]
            for _ in range(self.steps):
                delta = moved(delta, gradient(moved(weights, delta)), self.rate)
                delta = [d * min(1.0, self.epsilon / np.linalg.norm(d)) for d in delta]
            return gradient(moved(weights, delta))

        return perturbed


class AWP(Method):
    def __init__(self, gamma):
        self.gamma = gamma

    def rule(self, gradient, of_objective):
        def perturbed(weights):
            directions = [
                self.gamma * np.linalg.norm(w) * g / np.linalg.norm(g) if w.ndim > 1 else 0.0
                for w, g in zip(weights, gradient(weights))
            ]
            return gradient(moved(weights, directions))

        return perturbed


class ForwardGR(Method):
    """Gradient regularization by a difference quotient; a negative `step` makes it the backward one."""

    def __init__(self, factor, step, normalize=False):
        self.factor, self.step, self.normalize = factor, step, normalize

    def rule(self, gradient, of_objective):
        def regularized(weights):
            first = gradient(weights)
            step = self.step / norm(first) if self.normalize else self.step
            other = gradient(moved(weights, first, step))
            return moved(first, moved(other, first, -1.0), self.factor / self.step)

        return regularized


class ExactGR(Method):
    """The Hessian is that of the objective, whatever rule is inside; here by central differences."""

    def __init__(self, factor):
        self.factor = factor

    def rule(self, gradient, of_objective):
        def regularized(weights):
            first, h = gradient(weights), 1e-5
            ahead = of_objective(moved(weights, first, h), weights)
            behind = of_objective(moved(weights, first, -h), weights)
            return moved(first, moved(ahead, behind, -1.0), self.factor / (2.0 * h))

        return regularized


class Flooding(Method):
    def __init__(self, level):
        self.level = level

    def objective(self, net, inner):
        def flooded(weights, batch, held):
            loss, gradients = inner(weights, batch, held)
            sign = np.sign(loss - self.level)
            return sign * (loss - self.level) + self.level, [sign * g for g in gradients]

        return flooded


class WeightPenalty(Method):
    """The squared joint norm of all kernels: `factor · (Σ‖w‖²)²`, whose gradient couples the layers."""

    def __init__(self, factor):
        self.factor = factor

    def objective(self, net, inner):
        def penalized(weights, batch, held):
            loss, gradients = inner(weights, batch, held)
            total = sum((w**2).sum() for w in weights[::2])
            gradients = [
                g + 4.0 * self.factor * total * w if w.ndim > 1 else g
                for w, g in zip(weights, gradients)
            ]
            return loss + self.factor * total**2, gradients

        return penalized


class Attack:
    """Signed ascent of the cross-entropy from the input itself; `steps=1, step=epsilon` is FGSM."""

    def __init__(self, epsilon, step=None, steps=1, bounds=(0.0, 1.0)):
        self.epsilon, self.step, self.steps, self.bounds = epsilon, step or epsilon, steps, bounds

    def __call__(self, net, weights, batch):
        start = batch.x
        x = start
        for _ in range(self.steps):
            gradient = net.input_gradient(weights, x, lambda z: cross_entropy(z, batch.y)[1])
            x = x + self.step * np.sign(gradient)
            x = np.clip(np.clip(x, start - self.epsilon, start + self.epsilon), *self.bounds)
        return x


class AdversarialTraining(Method):
    def __init__(self, attack, clean_weight=0.0):
        self.attack, self.clean_weight = attack, clean_weight

    def prepare(self, net, weights, batch):
        return self.attack(net, weights, batch)

    def objective(self, net, inner):
        def mixture(weights, batch, held):
            loss, gradients = inner(weights, batch._replace(x=batch.found[self]), held)
            clean_loss, clean = inner(weights, batch, held)
            c = self.clean_weight
            mixed = [(1 - c) * g + c * h for g, h in zip(gradients, clean)]
            return (1 - c) * loss + c * clean_loss, mixed

        return mixture


class TRADES(Method):
    def __init__(self, attack, beta):
        self.attack, self.beta = attack, beta

    def prepare(self, net, weights, batch):
        return self.attack(net, weights, batch)

    def objective(self, net, inner):
        def with_divergence(weights, batch, held):
            loss, gradients = inner(weights, batch, held)
            clean = net.forward(weights, batch.x)
            adversarial = net.forward(weights, batch.found[self])
            values, of_clean, of_adversarial = divergence(clean[-1], adversarial[-1])
            for activations, upstream in ((clean, of_clean), (adversarial, of_adversarial)):
                parts, _ = net.backward(weights, activations, upstream / len(values))
                gradients = moved(gradients, parts, self.beta)
            return loss + self.beta * values.mean(), gradients

        return with_divergence


class VAT(Method):
    """`draw(shape)` gives the initial directions."""

    def __init__(self, draw, epsilon, finite_difference=1e-2, factor=1.0, entropy_factor=0.0):
        self.draw, self.epsilon, self.xi = draw, epsilon, finite_difference
        self.factor, self.entropy_factor = factor, entropy_factor

    def prepare(self, net, weights, batch):
        clean = net.logits(weights, batch.x)
        near = batch.x + self.xi * self._unit(self.draw(batch.x.shape))
        direction = net.input_gradient(weights, near, lambda z: divergence(clean, z)[2])
        return self.epsilon * self._unit(direction)

    def _unit(self, d):
        d = d / (1e-12 + np.abs(d).max(-1, keepdims=True))
        return d / np.sqrt(1e-6 + (d**2).sum(-1, keepdims=True))

    def objective(self, net, inner):
        def with_divergence(weights, batch, held):
            loss, gradients = inner(weights, batch, held)
            clean = net.forward(weights, batch.x)
            near = net.forward(weights, batch.x + batch.found[self])
            values, _, upstream = divergence(net.logits(held, batch.x), near[-1])
            parts, _ = net.backward(weights, near, upstream / len(values))
            gradients = moved(gradients, parts, self.factor)
            entropies, upstream = entropy(clean[-1])
            parts, _ = net.backward(weights, clean, upstream / len(values))
            gradients = moved(gradients, parts, self.entropy_factor)
            loss = loss + self.factor * values.mean() + self.entropy_factor * entropies.mean()
            return loss, gradients

        return with_divergence


# The step


def sgd_step(net, weights, chain, x, y, learning_rate):
    """`(loss at the weights, new weights)` of one step; `chain` is written as the models are, outermost first.

    Every search runs at the weights of the step, then objectives wrap objectives and rules wrap rules.
    """
    weights = [np.asarray(w, "float64") for w in weights]
    batch = Batch(np.asarray(x, "float64"), np.asarray(y), {})
    for method in reversed(chain):
        batch.found[method] = method.prepare(net, weights, batch)
    objective = net.objective
    for method in reversed(chain):
        objective = method.objective(net, objective)

    def of_objective(weights, held):
        return objective(weights, batch, held)[1]

    def gradient(weights):
        return of_objective(weights, weights)

    for method in reversed(chain):
        gradient = method.rule(gradient, of_objective)
    loss, _ = objective(weights, batch, weights)
    return loss, moved(weights, gradient(weights), -learning_rate)
