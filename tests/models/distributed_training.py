"""Trains on several devices and on one and compares; run by `test_distribution.py`, a mode as argument."""

import functools
import itertools
import sys

import keras
import model_table
import numpy as np
from keras import layers

import keras_regularize as kr

RNG = np.random.RandomState(0)
X = RNG.rand(64, 4).astype("float32")
Y = RNG.randint(0, 3, 64)
W = np.linspace(0.5, 1.5, 64).astype("float32")
COLUMNS = {"label": Y, "index": np.arange(64), "group": RNG.randint(0, 3, 64)}


def network():
    keras.utils.set_random_seed(5)
    return keras.Sequential(
        [
            keras.Input((4,)),
            # The penalty is a mean over samples, as those of Keras itself are not before 3.14.
            layers.Dense(
                16,
                "tanh",
                kernel_regularizer="l2",
                activity_regularizer=kr.regularizers.SpectralDecoupling(0.1),
                name="hidden",
            ),
            layers.Dense(3),
        ]
    )


# Rows of a perturbation belong to a replica; and the losses of ARoW and ALP reach the step as MART's does.
LEFT_OUT = {"FreeAdversarialTraining", "ARoW", "ALP", *model_table.VARIANTS}
# Each replica recalibrates its share of the batch by a half of that.
LEFT_OUT |= {"RecalibratedTraining"}
# Their terms are of the samples that a replica has beside each other.
LEFT_OUT |= {"SRL", "SpaceFolding", "ManifoldSmooth"}


def at_layer(net, model):
    """`model`, trained with the output of the first layer of `net` attacked."""
    attack = kr.attacks.FGSM(0.3, bounds=None, layer=net.layers[0])
    return kr.models.AdversarialTraining(model, attack, clean_weight=0.5)


def nestings():
    """Every model of the table whose steps are not random, two levels at once."""
    names = [name for name in model_table.METHODS if name not in LEFT_OUT]
    names = [name for name in names if not model_table.METHODS[name].random]
    rules = [name for name in names if model_table.METHODS[name].level == "gradient"]
    others = [name for name in names if name not in rules]
    for pair in itertools.zip_longest(rules, others):
        yield [name for name in pair if name is not None]


METHODS = {" of ".join(names): functools.partial(model_table.wrap, names) for names in nestings()}
METHODS |= {
    "look sam": lambda m: kr.models.LookSAM(m, rho=0.5, period=3),
    "momentum sam": lambda m: kr.models.MomentumSAM(m, rho=0.5),
    "ignite": lambda m: kr.models.IGNITE(m, factor=0.5),
    "group dro": lambda m: kr.models.GroupDRO(m, num_groups=3, step_size=0.5),
    "sam of group dro": lambda m: kr.models.SAM(kr.models.GroupDRO(m, 3, 0.5), rho=0.5),
    # The replicas wait for each other within the pass whose layer is perturbed.
    "layer attack on group dro": lambda m: at_layer(m, kr.models.GroupDRO(m, 3, 0.5)),
    "sam of layer attack on group dro": lambda m: kr.models.SAM(
        at_layer(m, kr.models.GroupDRO(m, 3, 0.5)), rho=0.5
    ),
    "elr": lambda m: kr.models.ELR(m, num_samples=64, num_classes=3),
    "sam of elr": lambda m: kr.models.SAM(kr.models.ELR(m, 64, 3), rho=0.5),
    # Where samples are left out, each replica chooses among its own.
    "co-teaching": lambda m: kr.models.CoTeaching(m, network(), forget_rate=0.0),
    "prospect": lambda m: kr.models.Prospect(m, num_samples=64, shift_cost=0.5),
    # What it stores is of all replicas.
    "srl": lambda m: kr.models.SRL(m, "hidden", [0, 1, 2, 3], None, 5, 0.0, 0.0, 0.0, seed=1),
}


def train(wrap, rows=slice(None), batch_size=16):
    """Weights, state of the method and logs after two epochs on the chosen rows."""
    net = network()
    model = wrap(net)
    model.compile(
        keras.optimizers.SGD(0.2, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = model.fit(
        X[rows],
        {name: column[rows] for name, column in COLUMNS.items()},
        sample_weight=W[rows],
        batch_size=batch_size,
        epochs=2,
        shuffle=False,
        verbose=0,
    ).history
    return [*model.get_weights(), np.array([history["loss"], history["accuracy"]])]


def train_two(rows=slice(None), batch_size=16):
    """The same of two networks with an optimizer each."""
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense
    size = X.shape[-1]
    model = kr.models.Pix2Pix(
        keras.Sequential([keras.Input((size,)), dense(8, "tanh"), dense(2)]),
        keras.Sequential([keras.Input((size + 2,)), dense(8, "tanh"), dense(1)]),
        reconstruction_loss=keras.losses.MeanAbsoluteError(),
    )
    model.compile(keras.optimizers.Adam(0.01), keras.optimizers.SGD(0.2, momentum=0.9))
    y = np.stack([X[rows].mean(-1), X[rows].std(-1)], axis=-1)
    logs = model.fit(X[rows], y, batch_size=batch_size, epochs=2, shuffle=False, verbose=0).history
    return [*model.get_weights(), np.array([logs["generator_loss"], logs["discriminator_loss"]])]


def train_captions():
    """The same of a model whose loss is made of others."""
    keras.utils.set_random_seed(0)
    model = kr.models.ModularCaptioner(5, 4, 2)
    model.compile(keras.optimizers.SGD(0.5), jit_compile=False)
    given = {"features": X[:16, None], "tokens": 1 + np.arange(16)[:, None] % 4}
    model.build({name: x.shape for name, x in given.items()})
    classes = np.arange(16)[:, None] % 3
    logs = model.fit(given, classes, batch_size=16, verbose=0).history
    return [*model.get_weights(), np.array(logs["loss"])]


def train_memories():
    """What layers that remember their samples hold after two steps."""
    keras.utils.set_random_seed(0)
    x, labels = keras.Input((4,)), keras.Input((), dtype="int32", optional=True)
    path = kr.layers.SurrogateRepresentation(3, None, 5, 0.0, 0.0, 0.0, seed=1)
    features = path([kr.layers.CenterLoss(3, factor=0.1)([x, labels]), labels])
    model = kr.models.WithLabels(keras.Model([x, labels], layers.Dense(3)(features)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.2), loss, jit_compile=False)
    model.fit(X[:32], Y[:32], batch_size=16, shuffle=False, verbose=0)
    path.end_epoch()
    return model.get_weights()


def losses_inside():
    """Of patches that are hard to reconstruct, and of a game: both call a loss themselves."""
    keras.utils.set_random_seed(0)
    tokens = [keras.Sequential([keras.Input((None, 4)), layers.Dense(n)]) for n in (4, 4, 4, 1)]
    model = kr.models.HPM(*tokens, patch_size=(2, 2), seed=0)
    model(X.reshape(4, 8, 8, 1), training=True)
    game = kr.models.RepresentationGame(1, keras.losses.Huber(), rounds=1, steps=2, seed=0)
    return [np.array(model.losses[0]), np.array(game.fit(X, np.eye(4)).regret)]


def train_on_views(loss, rows=slice(None), batch_size=16):
    """Weights and losses of an encoder that learns from pairs of rows."""
    keras.utils.set_random_seed(5)
    encoder = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    model = kr.models.RegularizedModel(kr.models.MultiView(encoder))
    model.compile(keras.optimizers.SGD(0.2), loss)
    views = np.stack([X, X[:, ::-1]], axis=1)
    data = {"x": views[rows], "y": Y[rows], "sample_weight": W[rows]}
    history = model.fit(**data, batch_size=batch_size, epochs=2, shuffle=False, verbose=0).history
    return [*model.get_weights(), np.array(history["loss"])]


class MeanOfShares(kr.regularizers.Uniformity):
    """What two replicas make of it, of which each compares the samples of its half alone."""

    def penalty(self, rows):
        return sum(super(MeanOfShares, self).penalty(half) for half in (rows[:8], rows[8:])) / 2


def train_features(regularizer, rows=slice(None), batch_size=16):
    """Weights and losses of a network whose features are compared with each other."""
    keras.utils.set_random_seed(5)
    net = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, activity_regularizer=regularizer), layers.Dense(3)]
    )
    model = kr.models.RegularizedModel(net)
    model.compile(
        keras.optimizers.SGD(0.2), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    history = model.fit(
        X[rows], Y[rows], batch_size=batch_size, epochs=2, shuffle=False, verbose=0
    ).history
    return [*model.get_weights(), np.array(history["loss"])]


#: Each sample is compared with others of the whole batch.
LOSSES_OF_VIEWS = {
    "NTXent": lambda: kr.losses.NTXent(0.5),
    "VICReg": lambda: kr.losses.VICReg(),
    "TREGS": lambda: kr.losses.TREGS(),
}

#: What is trained on one device and on several, by name: functions of the rows and the size of a batch.
TRAININGS = {
    **{name: functools.partial(train, wrap) for name, wrap in METHODS.items()},
    "two networks": train_two,
    **{
        name: lambda *rows, make=make: train_on_views(make(), *rows)
        for name, make in LOSSES_OF_VIEWS.items()
    },
}


def train_all(*rows):
    return {name: run(*rows) for name, run in TRAININGS.items()}


def compare_all(several, one):
    for name, values in several.items():
        compare(name, values, one[name])


def compare(name, several, one):
    for a, b in zip(several, one, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5, err_msg=name)


def main(mode):
    if mode == "distributions":
        one, whole = train_all(), train_features(kr.regularizers.Uniformity())
        devices = keras.distribution.list_devices()
        assert len(devices) == 4
        layout = keras.distribution.LayoutMap(
            keras.distribution.DeviceMesh((2, 2), ["batch", "model"], devices)
        )
        layout["hidden/kernel"] = (None, "model")
        for distribution in (
            keras.distribution.DataParallel(devices=devices),
            keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch"),
        ):
            with distribution.scope():
                compare_all(train_all(), one)
                compare("features", train_features(kr.regularizers.Uniformity()), whole)
    elif mode == "mirrored":
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2
        )
        one, captions, inside = train_all(), train_captions(), losses_inside()
        memories = train_memories()
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        with strategy.scope():
            compare_all(train_all(), one)
            compare("captions", train_captions(), captions)
            compare("losses inside", losses_inside(), inside)
            compare("memories", train_memories(), memories)
            try:
                jodie = kr.models.JODIE(2, 2, 3)
                jodie(jodie.stream([0, 1], [1, 0], [0.0, 1.0]))
                raise AssertionError("`JODIE` takes a strategy")
            except ValueError as error:
                assert "follows a stream on one device" in str(error), error
        local = train(lambda m: kr.models.SAM(m, rho=0.5, micro_batch_size=8))
        with strategy.scope():
            several = train(lambda m: kr.models.SAM(m, rho=0.5, local_perturbation=True))
            features = train_features(kr.regularizers.Uniformity())
        # Keras weights activity losses by replica, so the groups of one device are equal batches.
        compare("m-sharpness", several, local)
        compare("features", features, train_features(MeanOfShares()))
    else:
        import torch

        one = train_all()
        local = train(lambda m: kr.models.SAM(m, rho=0.5, micro_batch_size=8))
        shares = train_features(MeanOfShares())
        torch.distributed.init_process_group("gloo")
        rank = torch.distributed.get_rank()
        # Of every batch of 16 the first half goes to rank 0, the second to rank 1.
        rows = np.concatenate([np.arange(8) + start + 8 * rank for start in range(0, 64, 16)])
        compare_all(train_all(rows, 8), one)
        several = train(
            lambda m: kr.models.SAM(m, rho=0.5, local_perturbation=True), rows, batch_size=8
        )
        compare("m-sharpness", several, local)
        compare("features", train_features(kr.regularizers.Uniformity(), rows, 8), shares)
        check_synchronization(rank, rows)
        torch.distributed.destroy_process_group()
    print("equal to one device")


def check_synchronization(rank, rows):
    """Ranks that start from different weights end with equal ones, batch statistics included."""
    import torch

    keras.utils.set_random_seed(rank)
    net = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4), layers.BatchNormalization(), layers.Dense(4)]
    )
    model = kr.models.SAM(net)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(X[rows], Y[rows], batch_size=8, shuffle=False, verbose=0)
    for value in net.get_weights():
        total = torch.tensor(value)
        torch.distributed.all_reduce(total)
        np.testing.assert_allclose(total.numpy() / 2, value, atol=1e-6)


if __name__ == "__main__":
    main(sys.argv[1])
