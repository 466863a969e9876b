"""The train step of two networks that play against each other."""

import types
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops, tree

from keras_regularize import autodiff
from keras_regularize.autodiff import backend
from keras_regularize.configuration import Configured
from keras_regularize.models.step.objective import scaled
from keras_regularize.models.step.optimizers import Optimizers, scaled_optimizer
from keras_regularize.models.step.standalone import Standalone
from keras_regularize.registration import export
from keras_regularize.validation import check_integer


@export
class AdversarialModel(Configured, Standalone):
    r"""Trains a generator and a discriminator against each other, with an optimizer each, in one `fit`.

    The base of `kr.models.GAN` and its siblings, for methods of your own. A step draws
    `discriminator_steps` times what `discriminator_objective` gives and lets the discriminator's optimizer step,
    then does the same once for the generator, through the discriminator as it is by then. An objective calls
    `self.generator` and `self.discriminator` as it likes; only the weights of the one that is trained have
    gradients. Penalties of its layers (`kernel_regularizer`, `add_loss`) are added.

    | method | gives |
    |---|---|
    | `discriminator_objective(x, y, training)` | `(loss, values)`, a scalar and more scalars to log, by name |
    | `generator_objective(x, y, training)` | the same for the generator |
    | `generate(x)` | what metrics compare with the target, by default `self(x)` |
    | `target(x, y)` | what it is compared with |
    | `check_batch(x, y)` | raises `ValueError` for a batch it cannot use |
    | `build_networks()` | builds networks that come without weights |

    Callbacks, metrics, `steps_per_execution`, mixed precision, several devices, `.keras` files and going on from
    them work as for one network: the file holds both optimizers and the states of random generators. Batch
    normalization of the discriminator moves when it is trained, not when the generator is. `evaluate` gives both
    objectives at inference, and the metrics.

    Args:
        generator: A `keras.Model`.
        discriminator: A `keras.Model`, whose outputs are logits.
        discriminator_steps: Steps of the discriminator for one of the generator, at least 1.
        seed: Seed of what a step draws.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If a network is no `keras.Model`, both are the same, or a batch does not fit.

    Cost: of a `GAN`'s step: a forward pass of the generator and a forward-backward pass of two batches through the
    discriminator for each of its steps; then a forward-backward pass of both.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr


    class AdversarialDenoiser(kr.models.AdversarialModel):
        "Takes noise off so that a critic takes the result for clean data."

        def discriminator_objective(self, x, y, training):
            real = self.discriminator(y, training=training)
            fake = self.discriminator(self.generator(x, training=training), training=training)
            return kr.generative.discriminator_loss(real, fake, "hinge"), {}

        def generator_objective(self, x, y, training):
            cleaned = self.generator(x, training=training)
            error = keras.ops.mean((cleaned - y) ** 2)
            fake = self.discriminator(cleaned, training=training)
            return error + 0.1 * kr.generative.generator_loss(fake, kind="hinge"), {"error": error}

        values = ("error",)


    dense = keras.layers.Dense
    model = AdversarialDenoiser(
        keras.Sequential([keras.Input((4,)), dense(8, "relu"), dense(4)]),
        keras.Sequential([keras.Input((4,)), dense(8, "relu"), dense(1)]),
    )
    model.compile("adam", "adam")
    y = np.random.default_rng(0).random((8, 4), "float32")
    model.fit(y + 0.1, y, verbose=0)
    ```

    Reference: None; the step is that of Ian Goodfellow and others, *Generative Adversarial Nets*, NeurIPS 2014,
    arXiv:1406.2661.
    """

    #: Names of the values that objectives give beside the losses.
    values: Sequence[str] = ()

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        discriminator_steps: int = 1,
        seed: int | None = None,
        **kwargs: Any,
    ):
        for name, network in (("generator", generator), ("discriminator", discriminator)):
            if not isinstance(network, keras.Model):
                raise ValueError(f"`{name}` must be a `keras.Model`. Received: {name}={network!r}")
        if generator is discriminator:
            raise ValueError(
                "`generator` and `discriminator` must be two networks. Received the same twice."
            )
        kwargs.setdefault("dtype", generator.dtype_policy)
        super().__init__(**kwargs)
        self.generator = generator
        self.discriminator = discriminator
        self.discriminator_steps = check_integer(
            "discriminator_steps", discriminator_steps, minimum=1
        )
        self.seed = check_integer("seed", seed, optional=True)
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._replicas_synchronized = False
        # In an object of its own: Keras keeps what a built model tracks as it is, and it may be compiled again.
        self._measured = types.SimpleNamespace(logged=[], compared=[])

    # What a method defines

    def discriminator_objective(self, x: Any, y: Any, training: bool) -> tuple[Any, dict[str, Any]]:
        """`(loss, values)` of the discriminator: a scalar, and scalars to log."""
        raise NotImplementedError

    def generator_objective(self, x: Any, y: Any, training: bool) -> tuple[Any, dict[str, Any]]:
        """`(loss, values)` of the generator: a scalar, and scalars to log."""
        raise NotImplementedError

    def generate(self, x: Any) -> Any:
        """What the metrics compare with `target(x, y)`."""
        return self(x, training=False)

    def target(self, x: Any, y: Any) -> Any:
        """What generated samples are compared with."""
        return y

    def check_batch(self, x: Any, y: Any) -> None:
        """Raises `ValueError` for a batch the method cannot use."""

    def build_networks(self) -> None:
        """Builds the networks, where they do not know their inputs themselves."""

    def play(self, x: Any, y: Any) -> dict[str, Any]:
        """One step of both: returns the scalars to log, by name."""
        for _ in range(self.discriminator_steps):
            _, logs = self.update("discriminator", lambda: self._logged("discriminator", x, y))
        _, others = self.update("generator", lambda: self._logged("generator", x, y))
        return {**logs, **others}

    def update(self, name: str, objective: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
        """One step of a network, `"generator"` or `"discriminator"`, down the gradient of an objective.

        `objective()` returns `(loss, aux)` at the present weights of both networks; so does this.
        """
        network = self._network(name)
        variables = network.trainable_variables
        trained = {id(v) for v in variables}
        others = [(v, backend.read(v)) for v in self.variables if id(v) not in trained]
        frozen = {id(v) for v in self.discriminator.non_trainable_variables}
        frozen = frozen if name == "generator" else set()
        moving = [pair for pair in others if id(pair[0]) not in frozen]
        scale = self.optimizer.scale(name)

        def at(weights):
            mapping = [*zip(variables, weights), *others]
            with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
                loss, aux = objective()
                loss = loss + sum(ops.cast(ops.sum(p), loss.dtype) for p in network.losses)
                after = [scope.get_current_value(v) for v, _ in moving]
            moved = {
                str(i): new for i, ((_, v), new) in enumerate(zip(moving, after)) if new is not v
            }
            return scaled(loss, scale), (loss, aux, moved)

        weights = [backend.read(v) for v in variables]
        (_, (loss, aux, moved)), gradients = autodiff.value_and_grad(at, has_aux=True)(weights)
        self.optimizer.step(name, backend.reduce_mean_over_replicas(gradients))
        for position, value in moved.items():
            moving[int(position)][0].assign(value)
        return loss, aux

    # Keras

    def compile(
        self,
        generator_optimizer: Any = "adam",
        discriminator_optimizer: Any = "adam",
        metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """As `keras.Model.compile`, with two optimizers and without a loss.

        Args:
            generator_optimizer: That of the generator, an optimizer or its name.
            discriminator_optimizer: That of the discriminator.
            metrics: Metrics of generated samples, called with `(target, generated)`.
            **kwargs: `run_eagerly`, `steps_per_execution` and `jit_compile` of `keras.Model.compile`.
        """
        if "loss" in kwargs or "optimizer" in kwargs:
            raise ValueError(
                f"`{type(self).__name__}` has losses of its own and two optimizers, `generator_optimizer` and "
                f"`discriminator_optimizer`. Received: {sorted(kwargs)}"
            )
        optimizers = {
            "generator": scaled_optimizer(generator_optimizer, self.generator.dtype_policy),
            "discriminator": scaled_optimizer(
                discriminator_optimizer, self.discriminator.dtype_policy
            ),
        }
        if optimizers["generator"] is optimizers["discriminator"]:
            raise ValueError("Each network needs an optimizer of its own. Received one for both.")
        self._compile_arguments = {
            "generator_optimizer": optimizers["generator"],
            "discriminator_optimizer": optimizers["discriminator"],
            "metrics": metrics,
            **kwargs,
        }
        names = ("generator_loss", "discriminator_loss", *self.values)
        self._measured.logged = [keras.metrics.Mean(name=name) for name in names]
        self._measured.compared = [keras.metrics.get(m) for m in tree.flatten(metrics or [])]
        super().compile(
            Optimizers(optimizers, self._own_variables), auto_scale_loss=False, **kwargs
        )
        self.ensure_built()

    def get_compile_config(self) -> dict[str, Any]:
        if not self.compiled:
            return {}
        return keras.saving.serialize_keras_object(self._compile_arguments)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """What objectives log, and the compiled metrics."""
        return [*self._measured.logged, *self._measured.compared]

    def symbolic_inputs(self) -> Any:
        """New symbolic inputs like those that the generator is called on, which knows them."""
        given = [keras.Input(batch_shape=t.shape, dtype=t.dtype) for t in self.generator.inputs]
        return given if len(given) > 1 else given[0]

    def ensure_built(self) -> None:
        """Builds what the networks allow to build, and then the optimizers."""
        if not self.built:
            self.build_networks()
            if self.generator.built and self.discriminator.built:
                self(self.symbolic_inputs())
                self._inbound_nodes.pop()
        if self.built and self.compiled and not self.optimizer.built:
            self.optimizer.build()

    def build_from_config(self, config: dict[str, Any]) -> None:
        self.ensure_built()

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.generator(inputs, training=training)

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        for name in ("class_weight", "sample_weight"):
            if kwargs.get(name) is not None:
                raise ValueError(f"`{type(self).__name__}` takes no `{name}`.")
        return super().fit(*args, **kwargs)

    def train_step(self, *arguments: Any) -> Any:
        return backend.train_step(self, self._step, arguments)

    def test_step(self, *arguments: Any) -> Any:
        return backend.test_step(self, self._test, arguments)

    def _step(self, data):
        x, y = self._unpacked(data)
        if not self._replicas_synchronized:
            backend.synchronize(self.variables)
            self._replicas_synchronized = True
        logs = self.play(x, y)
        self.optimizer.iterations.assign(self.optimizer.iterations + 1)
        self._track(logs, x, y)
        backend.average([*self.non_trainable_variables, *self.metrics_variables])
        return self.get_metrics_result()

    def _test(self, data):
        x, y = self._unpacked(data)
        logs: dict[str, Any] = {}
        for name in ("discriminator", "generator"):
            logs |= self._logged(name, x, y, training=False)[1]
        self._track(logs, x, y)
        return self.get_metrics_result()

    def _unpacked(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if sample_weight is not None:
            raise ValueError(f"`{type(self).__name__}` takes no `sample_weight`.")
        self.check_batch(x, y)
        self.ensure_built()
        return x, y

    def _logged(self, name, x, y, training=True):
        """The objective of a network, with what is logged of it."""
        of_network = getattr(self, f"{name}_objective")
        loss, values = of_network(x, y, training)
        return loss, {f"{name}_loss": loss, **values}

    def _track(self, logs, x, y):
        count = ops.shape(tree.flatten(x)[0])[0]
        for tracker in self._measured.logged:
            if tracker.name in logs:
                tracker.update_state(logs[tracker.name], sample_weight=count)
        if self._measured.compared:
            target, generated = self.target(x, y), self.generate(x)
            for metric in self._measured.compared:
                metric.update_state(target, generated)

    def _network(self, name):
        return self.generator if name == "generator" else self.discriminator

    def _own_variables(self):
        return {
            "generator": self.generator.trainable_variables,
            "discriminator": self.discriminator.trainable_variables,
        }
