"""Models that give out the features of several views of each sample."""

from typing import Any

import keras
from keras import ops, tree

from keras_regularize.autodiff import backend
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class MultiView(keras.Model):
    r"""Encodes several views of each sample, for losses of views such as `losses.NTXent`.

    $$z_{bv} = g\big(f(t_v(x_b))\big), \qquad t_v\ \text{a new draw of the augmentation},$$

    with the encoder $f$ and a projector $g$, stacked to `(batch, views, dim)`. `fit(x)` needs no labels; losses
    that use them, as `losses.SupCon` does, are given `fit(x, y)`.

    `predict` returns $f(x)$, the encoder's features of inputs that were not augmented, without the projector,
    which is only there to be trained. Called, and in `evaluate`, the model gives out views as in training, so that
    a loss on validation data is that of the same task. After training, go on with `encoder`.

    The augmentation is any layer, most of all a `keras.Sequential` of `RandomCrop`, `RandomFlip` and the like; it
    is the loss' knowledge of what does not matter. Without one, inputs are views already, `(batch, views, …)`:
    crops that a data pipeline made, or a series at several times.

    Other train steps wrap it: `SAM(MultiView(encoder, …))`.

    Args:
        encoder: A `keras.Model` from inputs to features `(batch, dim)`.
        augmentation: A layer, called for each view with `training=True`; or `None`.
        views: Number of views, at least 2.
        projector: A layer or model on the features, or `None`.
        concatenate: Whether the views go through the encoder together, as one batch with common batch
            statistics (SimCLR); else one after the other (VICReg, Barlow Twins).
        **kwargs: `name` and other arguments of `keras.Model`.

    Input: that of the encoder; without `augmentation` with an axis of views after that of the batch.

    Raises:
        ValueError: If an argument is no model, layer or number of views, or shapes do not fit.

    Cost: `views` passes of the encoder and the projector.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    encoder = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, activation="relu")])
    model = kr.models.MultiView(encoder, keras.layers.GaussianNoise(0.1), projector=keras.layers.Dense(8))
    model.compile("adam", loss=kr.losses.NTXent())
    x = np.random.normal(size=(64, 8))
    model.fit(x, verbose=0)
    features = model.predict(x, verbose=0)  # (64, 16)
    ```

    Reference: Ting Chen, Simon Kornblith, Mohammad Norouzi and Geoffrey Hinton, *A Simple Framework for
    Contrastive Learning of Visual Representations*, ICML 2020, arXiv:2002.05709.
    """

    def __init__(
        self,
        encoder: keras.Model,
        augmentation: keras.Layer | None = None,
        views: int = 2,
        projector: keras.Layer | None = None,
        concatenate: bool = True,
        **kwargs: Any,
    ):
        if not isinstance(encoder, keras.Model):
            raise ValueError(f"`encoder` must be a `keras.Model`. Received: encoder={encoder!r}")
        for name, part in (("augmentation", augmentation), ("projector", projector)):
            if part is not None and not isinstance(part, keras.Layer):
                raise ValueError(f"`{name}` must be a layer or `None`. Received: {name}={part!r}")
        super().__init__(**kwargs)
        self.encoder = encoder
        self.augmentation = augmentation
        self.views = check_integer("views", views, minimum=2)
        self.projector = projector
        self.concatenate = bool(concatenate)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self._encoded(self._augmented(inputs), self.encoder, self.projector, training)

    def predict_step(self, *arguments: Any) -> Any:
        return backend.predict_step(self, self.encoder, arguments)

    def _augmented(self, inputs):
        """A list of views."""
        if self.augmentation is not None:
            return [self.augmentation(inputs, training=True) for _ in range(self.views)]
        for leaf in tree.flatten(inputs):
            shape = tuple(leaf.shape)
            if len(shape) < 2 or shape[1] != self.views:
                raise ValueError(
                    f"Without `augmentation` inputs are views, (batch, {self.views}, …). Received: shape {shape}"
                )
        return [tree.map_structure(lambda leaf, v=v: leaf[:, v], inputs) for v in range(self.views)]

    def _encoded(self, views, encoder, projector, training):
        """The features `(batch, views, dim)` of a list of views."""

        def features(x):
            z = encoder(x, training=training)
            z = z if projector is None else projector(z, training=training)
            if len(z.shape) != 2:
                raise ValueError(
                    "Encoder and projector must give out features (batch, dim). "
                    f"Received: shape {tuple(z.shape)}"
                )
            return z

        if not self.concatenate:
            return ops.stack([features(x) for x in views], axis=1)
        joined = tree.map_structure(lambda *parts: ops.concatenate(parts, axis=0), *views)
        z = features(joined)
        return ops.swapaxes(ops.reshape(z, (len(views), -1, z.shape[-1])), 0, 1)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "encoder": serialize(self.encoder),
            "augmentation": serialize(self.augmentation),
            "views": self.views,
            "projector": serialize(self.projector),
            "concatenate": self.concatenate,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "MultiView":
        parts = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects)
            for name in ("encoder", "augmentation", "projector", "predictor", "queue")
            if name in config
        }
        return cls(**(config | parts))


@export
class MomentumViews(MultiView):
    r"""Encodes one view, and a second one by slowly moving averages of the weights: MoCo v3, BYOL.

    $$z_{b1} = h\big(g(f(t_1(x_b)))\big), \qquad z_{b2} = \bar g(\bar f(t_2(x_b)))\ \text{without gradient},$$

    where the weights of $\bar f$ and $\bar g$ follow those of the encoder $f$ and the projector $g$ at each step
    by $\bar\theta \leftarrow m\,\bar\theta + (1 - m)\,\theta$, and $h$ is a predictor. With `losses.Alignment` it
    is BYOL, which needs the predictor; with `losses.InfoNCE(0.2, symmetric=False)` it is MoCo v3, whose negatives
    are those of the batch; with a `layers.NegativeQueue`, and no loss beside it, MoCo. Each step takes one order
    of the two views, where the first two methods sum up both.

    The averages move in the forward pass of training, as batch statistics do, and start equal to the weights. They
    are saved with the model. `predict` returns the features of the trained encoder.

    Args:
        encoder: A built `keras.Model` from inputs to features `(batch, dim)`, which can be cloned.
        augmentation: A layer, called for each view with `training=True`; or `None` for inputs
            `(batch, 2, …)`.
        projector: A built `keras.Model` on the features, or `None`.
        predictor: A layer or model on the projected features of the first view, or `None`.
        momentum: $m$, at least 0 and below 1: 0.99 to 0.999, less for short trainings.
        queue: A layer on the features of both views, such as `layers.NegativeQueue`, or `None`.
        **kwargs: `name` and other arguments of `keras.Model`.

    Input: as for `MultiView`. Output: `(batch, 2, dim)`.

    Raises:
        ValueError: If an argument is no built model, layer or number, or shapes do not fit.

    Cost: a pass of encoder, projector and predictor with gradient, one of the first two without, and a pass over
    their weights.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    encoder = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, activation="relu")])
    model = kr.models.MomentumViews(
        encoder, keras.layers.GaussianNoise(0.1), predictor=keras.layers.Dense(16), momentum=0.9
    )
    model.compile("adam", loss=kr.losses.Alignment())
    model.fit(np.random.normal(size=(64, 8)), verbose=0)
    ```

    Reference: Jean-Bastien Grill and others, *Bootstrap Your Own Latent: A New Approach to Self-Supervised
    Learning*, NeurIPS 2020, arXiv:2006.07733. Xinlei Chen, Saining Xie and Kaiming He, *An Empirical Study of
    Training Self-Supervised Vision Transformers*, ICCV 2021, arXiv:2104.02057. The averages are those of Kaiming
    He, Haoqi Fan, Yuxin Wu, Saining Xie and Ross Girshick, *Momentum Contrast for Unsupervised Visual
    Representation Learning*, CVPR 2020, arXiv:1911.05722.
    """

    def __init__(
        self,
        encoder: keras.Model,
        augmentation: keras.Layer | None = None,
        projector: keras.Model | None = None,
        predictor: keras.Layer | None = None,
        momentum: float = 0.99,
        queue: keras.Layer | None = None,
        **kwargs: Any,
    ):
        super().__init__(encoder, augmentation, 2, projector, **kwargs)
        for name, part in (("predictor", predictor), ("queue", queue)):
            if part is not None and not isinstance(part, keras.Layer):
                raise ValueError(f"`{name}` must be a layer or `None`. Received: {name}={part!r}")
        self.predictor = predictor
        self.queue = queue
        self.momentum = check_number("momentum", momentum, minimum=0, below=1)
        self.average_encoder = _copy("encoder", encoder)
        self.average_projector = None if projector is None else _copy("projector", projector)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        first, second = self._augmented(inputs)
        online = self._encoded([first], self.encoder, self.projector, training)[:, 0]
        if self.predictor is not None:
            online = self.predictor(online, training=training)
        if training:
            self._follow()
        average = self._encoded([second], self.average_encoder, self.average_projector, training)
        views = ops.stack([online, ops.stop_gradient(average[:, 0])], axis=1)
        return views if self.queue is None else self.queue(views, training=training)

    def _follow(self):
        pairs = list(zip(self.encoder.weights, self.average_encoder.weights))
        if self.projector is not None and self.average_projector is not None:
            pairs += zip(self.projector.weights, self.average_projector.weights)
        for weight, average in pairs:
            if weight.trainable:
                value = ops.stop_gradient(ops.convert_to_tensor(weight))
                old = ops.stop_gradient(ops.convert_to_tensor(average))
                average.assign(old + (1.0 - self.momentum) * (value - old))

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["views"], config["concatenate"]
        serialize = keras.saving.serialize_keras_object
        return {
            **config,
            "predictor": serialize(self.predictor),
            "momentum": self.momentum,
            "queue": serialize(self.queue),
        }


def _copy(name, model):
    """A clone with the same weights, which is never trained."""
    if not isinstance(model, keras.Model) or not model.built:
        raise ValueError(
            f"`{name}` must be a built `keras.Model`, of which a copy is made. Received: {name}={model!r}"
        )
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    copy.trainable = False
    return copy
