"""
# Explain predictions by training points

Why does a model predict this? One answer names features, another one names what it was trained on: *these* examples
pushed the prediction up, those pushed it down. For linear models with an L1 or L2 penalty, and for factorizations of
users and items, the answer is exact: at the minimum a prediction *is* a sum over the training points. It takes a
matrix product, and nothing is trained again. The guide is about models in NumPy and runs on every backend.

**Use this when** you want to check a prediction against the cases behind it, look for wrong labels, or tell a user
why something was recommended.

**Do not when** the model was not trained to the minimum of a penalized loss, as deep networks never are: the sums do not
add up then, which a warning says.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer

import keras_regularize as kr

POINTS = 30  # Predictions to explain.
PENALTY = 10.0  # Beside the sum of the losses; its inverse is the `C` of scikit-learn.
ITERATIONS = 1000

"""
## A sum over the training points

Logistic regression with an L1 penalty on scikit-learn's breast cancer data: 30 measurements of a tumour, of which the
penalty leaves some; class 1 is benign.
"""

data = load_breast_cancer()
x = (data.data - data.data.mean(axis=0)) / data.data.std(axis=0)
y = data.target
x_train, y_train, x_test, y_test = x[:400], y[:400], x[400:], y[400:]


def fit(x, y):
    "Logistic regression with an L1 penalty, by accelerated proximal gradient steps."
    rate = 4 * len(x) / np.linalg.norm(x, 2) ** 2
    w = ahead = np.zeros(x.shape[1])
    t = 1.0
    for _ in range(ITERATIONS):
        slope = x.T @ (1 / (1 + np.exp(-x @ ahead)) - y) / len(x)
        new = ahead - rate * slope
        new = np.sign(new) * np.maximum(np.abs(new) - rate * PENALTY / len(x), 0)
        t = 1.0 if (ahead - new) @ (new - w) > 0 else t  # Past the minimum: without momentum.
        following = (1 + np.sqrt(1 + 4 * t * t)) / 2
        ahead, w, t = new + (t - 1) / following * (new - w), new, following
    return w


w = fit(x_train, y_train)
hits = np.mean((x_test @ w > 0) == y_test)
print(f"{np.sum(w != 0)} of {w.size} features in use, test accuracy {hits:.3f}")

factor = PENALTY / len(x_train)  # Beside the mean of the losses.
values = kr.analysis.l1_representers(w, x_train, y_train, x_test, factor)
print("predictions      ", np.round(x_test[:4] @ w, 3))
print("sums over 400 points", np.round(values.sum(axis=0)[:4], 3))

"""
Each column of `values` belongs to a test point and sums to its prediction, the log-odds of class 1. A contribution is
the importance of the training point, which is large where the model still errs on it, times its similarity to the
test point in the features that the model uses.

Here is a test point near the boundary with what speaks for and against it.
"""

j = int(np.argmin(np.abs(x_test @ w)))
ranks = np.argsort(values[:, j])
strongest = np.concatenate([ranks[:6], ranks[-6:]])

figure, axis = plt.subplots(figsize=(7, 3.8))
colors = ["tab:blue" if y_train[i] else "tab:red" for i in strongest]
axis.barh(range(len(strongest)), values[strongest, j], color=colors)
axis.set_yticks(range(len(strongest)), [f"patient {i}" for i in strongest], fontsize=8)
axis.axvline(0, color="gray", linewidth=0.8)
axis.set_title(
    f"what makes up the prediction {x_test[j] @ w:+.2f} for a patient (blue: benign, red: malignant)",
    fontsize=10,
)
axis.set_xlabel("contribution to the log-odds of benign")
axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()

"""
Training points of both classes are on both sides: a malignant tumour with the opposite features speaks for benign.

## Is it true? Take them away

If the points with the largest contributions made the prediction, it should change when they are not there. For {POINTS:.0f}
sure predictions of class 1 the strongest supporters are removed, the model is fitted again, and the fall of the
prediction is compared with that after removing as many points at random, and as many of those nearest to the test
point.
"""

scores = x_test @ w
chosen = np.argsort(scores)[::-1][:POINTS]
shares = np.array([0, 5, 10, 20, 40])
falls = {"supporters": [], "nearest": [], "random": []}
random = np.random.default_rng(0)
for j in chosen:
    distances = np.linalg.norm(x_train - x_test[j], axis=1)
    orders = {
        "supporters": np.argsort(-values[:, j]),
        "nearest": np.argsort(distances),
        "random": random.permutation(len(x_train)),
    }
    for name, order in orders.items():
        curve = []
        for count in shares:
            kept = order[count:]
            again = fit(x_train[kept], y_train[kept])
            curve.append(x_test[j] @ again - scores[j])
        falls[name].append(curve)

figure, axis = plt.subplots(figsize=(6.4, 3.6))
for name, color in (("supporters", "C0"), ("nearest", "C2"), ("random", "C7")):
    curves = np.array(falls[name])
    mean, error = curves.mean(axis=0), curves.std(axis=0) / np.sqrt(len(curves))
    axis.plot(shares, mean, color=color, label=name)
    axis.fill_between(shares, mean - error, mean + error, color=color, alpha=0.2, linewidth=0)
axis.set_title("fall of the prediction after taking training points away", fontsize=10)
axis.set_xlabel("points removed, of 400")
axis.set_ylabel("change of the log-odds")
axis.legend(frameon=False, fontsize=9)
axis.spines[["top", "right"]].set_visible(False)
figure.tight_layout()
plt.show()

ends = {name: np.mean(curves, axis=0)[-1] for name, curves in falls.items()}

"""
Without its 40 strongest supporters a prediction changes by {ends["supporters"]:.2f} in the mean, without 40 points at random by
{ends["random"]:.2f}, and without the 40 nearest ones by {ends["nearest"]:.2f}.

## Wrong labels

A wrong label is a point that the model would rather not fit: its importance is large. Thirty labels of the training
set are turned around, and the points ranked by the size of their importance, which needs no test point.
"""

wrong = random.choice(len(x_train), 30, replace=False)
y_wrong = y_train.copy()
y_wrong[wrong] = 1 - y_wrong[wrong]
noisy = fit(x_train, y_wrong)
own = kr.analysis.l1_representers(noisy, x_train, y_wrong, x_train, factor)
support = np.diag(own)  # What each point contributes to the prediction for itself.
suspects = np.argsort(-np.abs(support))[:30]
found = np.isin(suspects, wrong).mean()
print(
    f"of the 30 points that speak most for their own label {found:.0%} are wrong ones; by chance 7.5%"
)

"""
## Recommendations

A factorization of users and items, with the squared norms of the factors as a penalty, is the minimum of a problem with
the nuclear norm. A prediction is then a sum over what the user has rated, by how alike the items are, and also a sum
over who has rated the item, by how alike the users are. Here with two groups of users and two kinds of items.
"""

users, items = np.repeat(np.arange(12), 5), random.integers(0, 10, 60)
taste, kind = np.where(np.arange(12) < 6, 1.0, -1.0), np.where(np.arange(10) < 5, 1.0, -1.0)
ratings = taste[users] * kind[items] + 0.3 * random.normal(size=60)

p, q = 0.1 * random.normal(size=(12, 3)), 0.1 * random.normal(size=(10, 3))
penalty = 0.02
for _ in range(500):  # Alternating least squares.
    for mine, other, ids, others in ((p, q, users, items), (q, p, items, users)):
        for k in range(len(mine)):
            rows = other[others[ids == k]]
            gram = rows.T @ rows / 60 + penalty * np.eye(3)
            mine[k] = np.linalg.solve(gram, rows.T @ ratings[ids == k] / 60)

why = kr.analysis.factorization_representers(p, q, users, items, ratings, (0, 1), penalty)
print(
    f"prediction {why.prediction:.3f}, sums {why.item_based.sum():.3f} and {why.user_based.sum():.3f}"
)
for k in np.argsort(-np.abs(why.item_based))[:3]:
    print(f"rated item {items[k]} with {ratings[k]:+.1f}: {why.item_based[k]:+.3f}")
for k in np.argsort(-np.abs(why.user_based))[:3]:
    print(f"user {users[k]} rated it with {ratings[k]:+.1f}: {why.user_based[k]:+.3f}")

"""
## Where to go from here

- `l2_representers` does the same for ridge penalties, also with the last hidden features of a network as `x_train`.
- A loss of your own is a function of `keras.ops`, whose derivative is taken for you.
"""
