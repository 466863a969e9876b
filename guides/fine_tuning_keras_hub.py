"""
# Fine-tuning KerasHub

A task of KerasHub is a Keras model, so a wrapper goes around it as around any other: strings go in, the task's own
preprocessor makes them tokens, and what `fit` trains are the weights that the task leaves trainable. This guide
fine-tunes a text classifier by LoRA under `SAM` and `VAT`, looks at what saving and quantizing do then, and trains an
image classifier under `AWP`. The networks are tiny and begin with random weights, so that it runs without a network
connection; the line that takes pretrained ones stands beside each.

**Use this when** you fine-tune a pretrained model on few labels, or want the result to be robust.

**Do not when** a plain `fit` is good enough: `SAM` alone doubles the cost of a step, and `VAT` and adversarial training
add their passes to it.
"""

import tempfile
import warnings

import keras
import keras_hub
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import keras_regularize as kr

# What Keras says of every task that is loaded or quantized.
warnings.filterwarnings("ignore", message=".*`compile\\(\\)` was not called.*|.*`quantize` method")

EPOCHS = 120
IMAGE_EPOCHS = EPOCHS // 12 + 1
VAT_EPSILON = 0.03
EPSILON = 0.1

"""
## A text classifier

Reviews of four adjectives, made up here. Each adjective agrees with the verdict four times out of five, so that no
classifier can be right always.
"""

GOOD = "great warm clever moving bright charming fresh honest gentle superb".split()
BAD = "dull cold clumsy flat grey tired stale false harsh awful".split()
THINGS = "film book song play meal story game show".split()
generator = np.random.default_rng(0)


def review(label):
    words = [
        generator.choice(GOOD if good else BAD) for good in (generator.random(4) < 0.8) == label
    ]
    return f"the {generator.choice(THINGS)} was {words[0]} and {words[1]} but {words[2]} and {words[3]}"


def reviews(count):
    labels = generator.integers(0, 2, count)
    return np.array([review(label) for label in labels]), labels


x_train, y_train = reviews(64)
x_test, y_test = reviews(400)
print(x_train[0], "->", y_train[0])

"""
The network. With pretrained weights these lines are one,
`keras_hub.models.BertTextClassifier.from_preset("bert_tiny_en_uncased", num_classes=2)`.
"""


def text_classifier():
    keras.utils.set_random_seed(0)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = [*special, "the", "was", "and", "but", *THINGS, *GOOD, *BAD]
    tokenizer = keras_hub.models.BertTokenizer(vocabulary=vocabulary)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(vocabulary),
        num_layers=1,
        num_heads=2,
        hidden_dim=32,
        intermediate_dim=64,
        max_sequence_length=16,
    )
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=16)
    return keras_hub.models.BertTextClassifier(backbone, num_classes=2, preprocessor=preprocessor)


"""
## LoRA under SAM and VAT

`enable_lora` freezes the backbone and adds small matrices to its attention; they and the head are what is trained.
`SAM` climbs along those alone, as it does along whatever is trainable. Call it before `compile`, around or inside a
wrapper makes no difference.

Token ids are integers and cannot be moved a little, so `VAT` moves what the embedding gives out: `layer=` names a layer
that the model calls once. `VAT` needs no labels: rows whose label is -1 count as unlabelled and take part in it alone.
"""

crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def fine_tune(wrap):
    task = text_classifier()
    task.backbone.enable_lora(4)
    model = wrap(task)
    model.compile(keras.optimizers.Adam(0.01), crossentropy, metrics=["accuracy"])
    model.fit(x_train, y_train, batch_size=64, epochs=EPOCHS, verbose=0)
    return task, model


def sam_vat(task):
    vat = kr.models.VAT(task, layer="token_embedding", epsilon=VAT_EPSILON, seed=0)
    return kr.models.SAM(vat, rho=0.02)


_, plain = fine_tune(kr.models.RegularizedModel)
task, model = fine_tune(sam_vat)

_, accuracy_plain = plain.evaluate(x_test, y_test, batch_size=400, verbose=0)
_, accuracy_vat = model.evaluate(x_test, y_test, batch_size=400, verbose=0)
trained = sum(np.prod(v.shape) for v in task.trainable_variables)
print(f"{trained} of {task.count_params()} weights are trained")
print(f"LoRA                accuracy {accuracy_plain:.1%}")
print(f"LoRA, SAM and VAT   accuracy {accuracy_vat:.1%}")

"""
{accuracy_plain:.0%} without the wrappers, {accuracy_vat:.0%} with them, over random weights that know nothing of language:
this shows how it is done, not what it is worth.

## Saving, adapters, quantization

The wrapper holds the task, which is what you keep. A saved model has whole kernels, the adapters added in: it predicts
the same, and nothing in it is frozen any more. To train on, call `enable_lora` after loading, for new adapters on top.
`save_lora_weights` writes the adapters of a backbone alone, without the head and without the biases that `enable_lora`
leaves trainable.
"""

before = model.predict(x_test, verbose=0)
with tempfile.TemporaryDirectory() as folder:
    model.save(f"{folder}/model.keras")
    loaded = keras.models.load_model(f"{folder}/model.keras", compile=False)
    task.backbone.save_lora_weights(f"{folder}/adapters.lora.h5")
    again = text_classifier()
    again.backbone.enable_lora(4)
    again.backbone.load_lora_weights(f"{folder}/adapters.lora.h5")
moved = np.abs(loaded.predict(x_test, verbose=0) - before).max()
print(f"loaded: differs by {moved:.0e}, {len(loaded.trainable_variables)} trainable variables")
pairs = zip(task.backbone.weights, again.backbone.weights)
equal = [np.array_equal(a.numpy(), b.numpy()) for a, b in pairs if "lora" in a.path]
print(f"{sum(equal)} of {len(equal)} matrices of the adapters are there again")

"""
`quantize` turns the kernels into eight bits in place, after training, or before it: adapters are trained over quantized
kernels as well, and an attack finds its layer there too. Export the task itself, or the wrapper, which exports the task.
"""

task.backbone.quantize("int8")
_, accuracy_int8 = model.evaluate(x_test, y_test, batch_size=400, verbose=0)
print(f"accuracy in eight bits {accuracy_int8:.1%}")

"""
## An image classifier under AWP

A vision transformer on the digits of scikit-learn, 8 × 8 pixels in patches of 2 × 2. Pretrained, this is
`keras_hub.models.ViTImageClassifier.from_preset("vit_base_patch16_224_imagenet", num_classes=10)`, and a preprocessor
would come along. `AdversarialTraining` trains on images moved by up to {EPSILON:.2f} in every pixel, `AWP` around it also
moves the weights against the training, which closes much of the gap between training and test robustness.
"""

images, digits = load_digits(return_X_y=True)
order = generator.permutation(len(digits))
images = (images[order].reshape(-1, 8, 8, 1) / 16).astype("float32")
digits = digits[order]


def image_classifier():
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.ViTBackbone(
        image_shape=(8, 8, 1),
        patch_size=2,
        num_layers=1,
        num_heads=2,
        hidden_dim=32,
        mlp_dim=64,
        dropout_rate=0.0,
        attention_dropout=0.0,
    )
    return keras_hub.models.ViTImageClassifier(backbone, num_classes=10, dropout=0.0)


fgsm = kr.attacks.FGSM(EPSILON)
pgd = kr.attacks.PGD(EPSILON, step_size=EPSILON / 4, steps=7, seed=0)
robust, clean = {}, {}
for name, wrap in {
    "plain": kr.models.RegularizedModel,
    "AWP": lambda task: kr.models.AWP(kr.models.AdversarialTraining(task, fgsm), gamma=0.005),
}.items():
    model = wrap(image_classifier())
    model.compile(keras.optimizers.Adam(0.003), crossentropy, metrics=["accuracy"])
    model.fit(images[:1300], digits[:1300], batch_size=100, epochs=IMAGE_EPOCHS, verbose=0)
    x, y = images[1300:], digits[1300:]
    _, clean[name] = model.evaluate(x, y, batch_size=len(y), verbose=0)
    robust[name] = kr.analysis.robust_accuracy(model, x, y, pgd, batch_size=len(y))
    print(f"{name:12s} accuracy {clean[name]:.1%}, under attack {robust[name]:.1%}")

positions = np.arange(len(robust))
plt.figure(figsize=(5, 3))
plt.bar(positions - 0.2, clean.values(), 0.4, label="clean")
plt.bar(positions + 0.2, robust.values(), 0.4, label="under attack")
plt.xticks(positions, robust)
plt.ylabel("accuracy on test images")
plt.legend(loc="lower right")
plt.tight_layout()
plt.show()
