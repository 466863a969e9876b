"""Hard patches: the ranking loss, the masks, a step, the schedules, videos, and digits."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import keras_regularize as kr
from keras_regularize.models._hard_patch_mask import number_masked
from tests.helpers import array, number, tensor


def tokens(given, units, hidden=None):
    layers = [keras.Input((None, given))]
    if hidden:
        layers.append(keras.layers.Dense(hidden, "gelu"))
    return keras.Sequential([*layers, keras.layers.Dense(units)])


def mixing(dim, patches=None):
    """Tokens that see each other."""
    x = inputs = keras.Input((patches, dim))
    x = x + keras.layers.MultiHeadAttention(2, dim // 2)(x, x)
    x = x + keras.layers.Dense(dim)(keras.layers.Dense(2 * dim, "gelu")(x))
    return keras.Model(inputs, x)


def network(pixels=4, dim=8, **arguments):
    keras.utils.set_random_seed(0)
    decoder = keras.Sequential([mixing(dim), keras.layers.Dense(pixels)])
    predictor = keras.Sequential([mixing(dim), keras.layers.Dense(1)])
    for part in (decoder, predictor):
        part.build((None, None, dim))
    arguments = {"patch_size": (2, 2), "seed": 0, **arguments}
    return kr.models.HPM(tokens(pixels, dim), mixing(dim), decoder, predictor, **arguments)


def test_ranking_properties():
    rng = np.random.default_rng(0)
    losses, scores = rng.exponential(size=(3, 6)), rng.normal(size=(3, 6))
    loss = kr.losses.PatchLossRanking()
    value = number(loss(losses, scores))
    assert number(loss(np.log(losses), scores + rng.normal(size=(3, 1)))) == pytest.approx(
        value, rel=1e-5
    )
    assert number(loss(losses, 0 * scores)) == pytest.approx(np.log(2), rel=1e-5)
    assert number(loss(losses, 1e3 * losses.argsort(1).argsort(1))) < 1e-6
    assert number(loss(np.ones((2, 3)), scores[:2, :3])) == 0
    unknown = np.concatenate([losses, np.full((3, 2), np.nan)], axis=1)
    more = np.concatenate([scores, np.ones((3, 2))], axis=1)
    assert number(loss(unknown, more)) == pytest.approx(value, rel=1e-5)
    with pytest.raises(ValueError, match=r"of one shape, `\(batch, patches\)`"):
        loss(losses[:, :2], scores)


@pytest.mark.parametrize("hard", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("ratio", [0.5, 0.6, 0.75])
def test_masks_have_equal_counts_and_the_hardest(ratio, hard):
    scores = np.random.default_rng(0).normal(size=(5, 10))
    mask = array(kr.models.hard_patch_mask(scores, None, ratio, hard, seed=1))
    count = number_masked(10, ratio)
    assert count == 10 - int(10 * (1 - ratio) + 1e-9) and (mask.sum(1) == count).all()
    hardest = np.argsort(-scores, axis=1)[:, : int(count * hard + 1e-9)]
    assert (np.take_along_axis(mask, hardest, axis=1) == 1).all()


@pytest.mark.parametrize("relative", [True, False])
def test_the_losses_of_a_step(relative):
    x = np.random.default_rng(0).uniform(size=(3, 4, 6, 1)).astype("float32")
    model = network(mask_ratio=0.5, initial_hard_fraction=1.0, relative=relative)
    model(tensor(x))
    model._move_teacher()
    np.testing.assert_array_equal(array(model.patches(tensor(x)))[1, 4], x[1, 2:4, 2:4].ravel())
    teacher = array(model.predicted_losses(tensor(x)))
    hidden = np.argsort(-teacher, axis=1)[:, :3]  # All of them the hardest.
    model(tensor(x), training=True)
    total = 0.0
    per_image, ranks, pairs = [], 0.0, 0
    patches = array(model.patches(tensor(x)))
    embedded = array(model.patch_embedding(tensor(patches))) + array(model.positions)
    for i in range(3):
        seen = [k for k in range(6) if k not in hidden[i]]
        full = np.tile(array(model.mask_token), (6, 1))
        full[seen] = array(model.encoder(tensor(embedded[i][None, seen])))[0]
        full = full + array(model.decoder_positions)
        pixels = array(model.decoder(tensor(full[None])))[0]
        scores = array(model.loss_predictor(tensor(full[None])))[0].mean(-1)
        losses = np.square(pixels - patches[i]).mean(-1)[hidden[i]]
        s = scores[hidden[i]]
        per_image.append(losses.mean())
        if relative:
            for a in range(3):
                for b in range(3):
                    if losses[a] > losses[b]:
                        ranks, pairs = ranks + np.log1p(np.exp(s[b] - s[a])), pairs + 1
        else:
            z = (losses - losses.mean()) / np.sqrt(losses.var(ddof=1) + 1e-6)
            ranks, pairs = ranks + np.square(s - z).sum(), pairs + 3
    total = np.mean(per_image) + ranks / pairs
    np.testing.assert_allclose(number(sum(model.losses)), total, rtol=1e-4)


def test_schedules_teacher_and_saving(tmp_path):
    x = np.random.default_rng(0).uniform(size=(8, 4, 4, 1)).astype("float32")
    model = network(ema_momentum=(0.5, 0.7), ema_warmup_epochs=2)
    model.compile(keras.optimizers.SGD(0.1))
    kept = []
    seen = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda e, logs: kept.append(
            (number(model.hard_fraction), number(model.momentum))
        )
    )
    before = array(model.patch_embedding.layers[0].kernel).copy()
    model.fit(x, epochs=4, batch_size=8, callbacks=[seen], verbose=0)
    np.testing.assert_allclose(kept, [(0.125, 0.5), (0.25, 0.6), (0.375, 0.7), (0.5, 0.7)])
    teacher = array(model.teacher[0].layers[0].kernel)
    now = array(model.patch_embedding.layers[0].kernel)
    assert np.abs(now - before).max() > 1e-6
    between = (teacher - before) * (now - teacher)
    assert (between[np.abs(now - before) > 1e-4] > -1e-6).mean() > 0.8
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        array(loaded.predicted_losses(tensor(x))),
        array(model.predicted_losses(tensor(x))),
        rtol=1e-5,
    )
    shown, mask = model.reconstruct(x)
    visible = np.repeat(np.repeat(array(mask).reshape(8, 2, 2), 2, 1), 2, 2)[..., None] == 0
    np.testing.assert_array_equal(array(shown)[visible], x[visible])


def test_videos_and_wrong_sizes():
    x = np.random.default_rng(0).uniform(size=(2, 4, 4, 6, 1)).astype("float32")
    model = network(pixels=8, patch_size=(2, 2, 2))
    model.compile("sgd")
    model.fit(x, verbose=0)
    assert model.predict(x, verbose=0).shape == (2, 12, 8)
    with pytest.raises(ValueError, match=r"Patches of \[2, 2\] must divide inputs"):
        network()(np.ones((1, 5, 4, 1)))
    with pytest.raises(ValueError, match="Patches have 8 numbers"):
        network()(np.ones((1, 4, 4, 2)))
    with pytest.raises(ValueError, match="2 or 3 sizes"):
        network(patch_size=(2,))


@pytest.mark.rotating
def test_it_learns_what_digits_are_made_of_and_which_patches_are_hard():
    images, labels = load_digits(return_X_y=True)
    x = (images.reshape(-1, 8, 8, 1) / 16).astype("float32")
    model = network(dim=16, mask_ratio=0.5, ema_momentum=(0.9, 0.9))
    model.compile(keras.optimizers.Adam(0.01))

    def accuracy():
        """By a linear classifier of the means of the encoded patches."""
        features = model.predict(x, batch_size=len(x), verbose=0).mean(axis=1)
        known = features[:1000], labels[:1000], features[1000:], labels[1000:]
        return kr.analysis.linear_probe(*known, l2=1e-2).accuracy

    before = accuracy()
    model.fit(x[:1000], batch_size=100, epochs=12, verbose=0)
    assert accuracy() > before + 0.01, (before, accuracy())

    scores = array(model.predicted_losses(tensor(x[:100])))
    errors = 0.0
    for _ in range(20):
        shown, _ = model.reconstruct(x[:100], 0.0)
        gap = array(model.patches(shown)) - array(model.patches(tensor(x[:100])))
        errors = errors + np.square(gap).mean(-1)
    ranks = [np.argsort(np.argsort(v, axis=1), axis=1) for v in (scores, errors)]
    correlation = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(*ranks)])
    assert correlation > 0.5, correlation
