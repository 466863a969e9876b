"""
# Several devices

A wrapper of this package trains on several devices as it does on one: the same model, the same `compile`, the same
`fit`. This guide gives a recipe for each backend, runs it on the processor alone, and compares the weights with those
that one device trains. Each recipe is a program of its own, as it would be on a real machine; here they are launched
one after the other, whichever backend the guide itself runs on.

**Use this when** one device is too slow or its memory too small, and you want the numbers that one device would give.

**Do not when** the model fits one device and trains in minutes. Nor is anything gained by the virtual devices below,
which share the cores of one machine: they are there to try a recipe out.
"""

import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile

EPOCHS = 3


def launch(program, backend, *options, **environment):
    """Runs a program in an interpreter of its own, as `KERAS_BACKEND=… python train.py` does, and prints its output."""
    if importlib.util.find_spec(backend) is None:
        print(f"{backend} is not installed here")
        return
    environment = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "train.py").write_text(f"EPOCHS = {EPOCHS}\n{program}")
        run = subprocess.run(
            [sys.executable, *options, "train.py"],
            cwd=folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )
    print(run.stdout, end="")
    if run.returncode:
        raise RuntimeError(run.stderr)


"""
## What all three train

The digits of scikit-learn, a small network, and `LookSAM`, which has both things that could go wrong on several
devices: a gradient at weights moved along the gradient of the *whole* batch, and a state as large as the weights.
Nothing in here knows of devices. All recipes begin with this text.
"""

TRAINING = """
import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_regularize as kr

x, y = load_digits(return_X_y=True)
x, y = (x[:1280] / 16).astype("float32"), y[:1280]


def look_sam(network):
    return kr.models.LookSAM(network, rho=0.1, period=2)


def train(x=x, y=y, batch_size=64, method=look_sam):
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(32, activation="relu", name="hidden"),
            keras.layers.Dense(10, name="logits"),
        ]
    )
    model = method(network)
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(x, y, batch_size=batch_size, epochs=EPOCHS, shuffle=False, verbose=0)
    return model


def difference(a, b):
    pairs = zip(a.get_weights(), b.get_weights(), strict=True)
    return max(np.abs(u - v).max() for u, v in pairs)
"""

"""
## JAX: `keras.distribution`

Keras divides the batch (`DataParallel`), or the batch and the weights (`ModelParallel`), and the step stays one program
that sees the whole batch. So *everything* is exact, also what is no mean over samples: batch statistics, `Flooding`,
the samples that `CoTeaching` leaves out.

Set the distribution before the model is made and leave it set. What a method keeps of every weight lies where the
weight lies: the direction of `LookSAM`, the momentum of `MomentumSAM`, the anchors of `WeightPenalty`, the averages of
`ELRPlus`, the masks of `Masked`, the planes of `BitWeights`. The layout map names the weights only. Tables with a row
for every *sample*, such as the memory of `ELR`, belong to no weight and are whole on each device: any device may meet
any sample.

On accelerators this is all, and `python train.py` finds them. On a processor a flag of XLA makes four virtual devices,
which must be set before JAX starts.
"""

JAX = """
one = train()
devices = keras.distribution.list_devices()

keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
print(f"DataParallel on {len(devices)}: differs from one device by {difference(train(), one):.0e}")

mesh = keras.distribution.DeviceMesh((2, 2), ["batch", "model"], devices)
layouts = keras.distribution.LayoutMap(mesh)
layouts[".*hidden/kernel"] = (None, "model")
layouts[".*hidden/bias"] = ("model",)
keras.distribution.set_distribution(
    keras.distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch")
)
model = train()
print(f"ModelParallel on 2 x 2: differs from one device by {difference(model, one):.0e}")
for variable in [*model.variables, *model.optimizer.variables]:
    if variable.shape == (64, 32):
        part = variable.value.sharding.shard_shape(variable.shape)
        print(f"    {variable.path}: {part} of {variable.shape} on each device")

model.save("model.keras")  # Whole: it can be loaded on any number of devices.
keras.distribution.set_distribution(None)
loaded = keras.models.load_model("model.keras")
print(f"saved and loaded on one device: differs by {difference(loaded, model):.0e}")
"""

flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
launch(TRAINING + JAX, "jax", XLA_FLAGS=flags)

"""
The last step of an epoch must be divisible too: `keras.distribution` refuses a batch that is not a multiple of the
devices on the batch axis.

## PyTorch: one process per device

There is nothing to wrap in `DistributedDataParallel`. A wrapper sees that a process group is there, starts from the
weights of rank 0, averages gradients *before* they are used (also the one along which SAM climbs), and averages the
statistics of batch normalization and the logged loss and metrics. Keras itself does none of this: without a wrapper,
each process would train a network of its own, as the last line of the output shows.

Every process passes its own share of the rows, here every second one. Equal shares, please: the average is over
processes, not over samples.
"""

TORCH = """
import torch

one, plain = train(), train(method=lambda network: network)

torch.distributed.init_process_group("gloo")  # "nccl" on GPUs.
rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
mine = {"x": x[rank::size], "y": y[rank::size], "batch_size": 64 // size}

model = train(**mine)
bare = train(**mine, method=lambda network: network)
wrapped = train(**mine, method=kr.models.RegularizedModel)
if rank == 0:  # One process speaks, and saves.
    print(f"LookSAM in {size} processes: differs from one by {difference(model, one):.0e}")
    print(f"RegularizedModel, plain training: differs by {difference(wrapped, plain):.0e}")
    print(f"Keras without a wrapper: differs by {difference(bare, plain):.0e}")
    model.save("model.keras")
torch.distributed.destroy_process_group()
"""

launch(
    TRAINING + TORCH, "torch", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"
)

"""
In a terminal this is `KERAS_BACKEND=torch torchrun --standalone --nproc-per-node=2 train.py`. On GPUs call
`torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))` before anything of Keras. `evaluate` and `predict` run on the
rows that a process gives them.

## TensorFlow: `MirroredStrategy`

Make and compile the model within the strategy's scope; `fit` divides each batch. On a processor, two logical devices
stand for two GPUs.
"""

TENSORFLOW = """
import tensorflow as tf

processor = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    processor, [tf.config.LogicalDeviceConfiguration()] * 2
)
one = train()
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])  # No argument for all GPUs.
with strategy.scope():
    model = train()
print(f"MirroredStrategy on 2: differs from one device by {difference(model, one):.0e}")

model.save("model.keras")
loaded = keras.models.load_model("model.keras")
print(f"saved and loaded on one device: differs by {difference(loaded, model):.0e}")
"""

launch(TRAINING + TENSORFLOW, "tensorflow")

"""
## What is exact, and what is taken of each part

| | JAX | processes of PyTorch, replicas of TensorFlow |
|---|---|---|
| loss, penalties, gradients, the gradient along which SAM and its family climb | whole batch | whole batch |
| attacks and other searches, a sample by itself | exact | exact |
| groups of `GroupDRO`, tables of `ELR` and `Prospect` | whole batch | whole batch, the same on all |
| batch normalization | whole batch | normalizes by the part; its averages are made equal |
| `Flooding`, which compares the mean loss with a level | whole batch | each part |
| the mean over labelled rows of `VAT`, the samples that `CoTeaching` trusts | whole batch | each part |
| dropout, random starts | one draw for the batch | a draw for each part |

Where each part is wanted by itself, `SAM(model, local_perturbation=True)` climbs along the gradient of the part
("m-sharpness"); on one device `micro_batch_size=` does the same.
"""
