"""Derivatives against closed forms and float64 finite differences, nested, compiled and inside layers."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops, tree

import keras_regularize as kr
from keras_regularize.autodiff import backend
from tests.helpers import array, softmax

pytestmark = pytest.mark.everywhere

BACKEND = keras.backend.backend()


def tensor(x, dtype="float32"):
    return ops.convert_to_tensor(np.asarray(x), dtype=dtype)


def compiled(fn):
    """`fn` of tensors as one compiled program, where the backend has such a thing."""
    if BACKEND == "jax":
        import jax

        return jax.jit(fn)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(fn, jit_compile=True)
    return fn


def slopes(fn, x, step=1e-5):
    """Central differences of a scalar float64 `fn` of one array."""
    result = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        move = np.zeros_like(x)
        move[i] = step
        result[i] = (fn(x + move) - fn(x - move)) / (2 * step)
    return result


def curvature_along(fn, x, v, step=1e-3):
    """Central second differences `H v` of a scalar float64 `fn` of one array."""
    result = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        move = np.zeros_like(x)
        move[i] = step
        corners = [
            a * b * fn(x + a * move + b * step * v) for a, b in itertools.product((1, -1), repeat=2)
        ]
        result[i] = sum(corners) / (4 * step**2)
    return result


def parts(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "kernel": rng.normal(size=(3, 2)),
        "rest": [rng.normal(size=(2,)), (rng.normal(size=()),)],
    }


INPUTS = np.random.default_rng(7).normal(size=(4, 3))


def network(w, xp):
    bias, (scale,) = w["rest"]
    hidden = xp.tanh(xp.matmul(INPUTS.astype(xp_dtype(xp)), w["kernel"]) + bias)
    return xp.sum(hidden**2 * xp.exp(scale)) + scale**3


def xp_dtype(xp):
    return "float64" if xp is np else "float32"


# value_and_grad, grad


def test_gradient_of_a_nested_structure():
    w = parts()
    value, gradient = kr.autodiff.value_and_grad(lambda w: network(w, ops))(
        tree.map_structure(tensor, w)
    )
    np.testing.assert_allclose(array(value), network(w, np), rtol=1e-5)
    tree.assert_same_structure(gradient, w)
    leaves = tree.flatten(w)
    for i, leaf in enumerate(leaves):

        def moved(x, i=i):
            return network(tree.pack_sequence_as(w, [*leaves[:i], x, *leaves[i + 1 :]]), np)

        expected = slopes(moved, leaf)
        np.testing.assert_allclose(array(tree.flatten(gradient)[i]), expected, rtol=1e-4, atol=1e-5)


def test_aux_and_further_arguments():
    def fn(x, factor, offset=0.0):
        return ops.sum(x * factor) + offset, {"square": x**2, "none": None}

    x = tensor([1.0, 2.0])
    (value, aux), gradient = kr.autodiff.value_and_grad(fn, has_aux=True)(x, 3.0, offset=1.0)
    assert array(value) == 10.0
    np.testing.assert_array_equal(array(aux["square"]), [1.0, 4.0])
    assert aux["none"] is None
    np.testing.assert_array_equal(array(gradient), [3.0, 3.0])

    gradient, aux = kr.autodiff.grad(fn, has_aux=True)(x, 3.0)
    np.testing.assert_array_equal(array(gradient), [3.0, 3.0])
    np.testing.assert_array_equal(array(aux["square"]), [1.0, 4.0])


def test_zeros_where_unconnected():
    x = {"used": tensor([1.0, 2.0]), "unused": tensor(np.ones((2, 3)))}
    gradient = kr.autodiff.grad(lambda x: ops.sum(x["used"] ** 2))(x)
    np.testing.assert_array_equal(array(gradient["used"]), [2.0, 4.0])
    np.testing.assert_array_equal(array(gradient["unused"]), np.zeros((2, 3)))

    value, gradient = kr.autodiff.value_and_grad(lambda x: 3.0)(x)
    assert array(value) == 3.0
    np.testing.assert_array_equal(array(gradient["used"]), [0.0, 0.0])

    stopped = kr.autodiff.grad(lambda x: ops.sum(ops.stop_gradient(x["used"])))(x)
    np.testing.assert_array_equal(array(stopped["used"]), [0.0, 0.0])


def test_second_and_third_derivatives():
    x = tensor(1.5)

    def fifth(x):
        return x**5

    first = kr.autodiff.grad(fifth)
    second = kr.autodiff.grad(first)
    third = kr.autodiff.grad(second)
    np.testing.assert_allclose(array(first(x)), 5 * 1.5**4, rtol=1e-5)
    np.testing.assert_allclose(array(second(x)), 20 * 1.5**3, rtol=1e-5)
    np.testing.assert_allclose(array(third(x)), 60 * 1.5**2, rtol=1e-5)
    np.testing.assert_allclose(array(compiled(third)(x)), 60 * 1.5**2, rtol=1e-5)


def test_zero_second_derivative_of_a_linear_function():
    x = tensor([1.0, 2.0])
    gradient = kr.autodiff.grad(lambda x: ops.sum(kr.autodiff.grad(lambda x: ops.sum(3 * x))(x)))
    np.testing.assert_array_equal(array(gradient(x)), [0.0, 0.0])


def test_gradient_of_an_input_gradient_norm():
    rng = np.random.default_rng(1)
    w, x = rng.normal(size=(3, 2)), rng.normal(size=(5, 3))

    def penalty(w):
        hidden = np.tanh(x @ w)
        slope = 2 * hidden * (1 - hidden**2) @ w.T  # of Σ tanh²(x w) with respect to x
        return np.sum(slope**2)

    def penalty_by_autodiff(w):
        slope = kr.autodiff.grad(lambda x: ops.sum(ops.tanh(ops.matmul(x, w)) ** 2))(tensor(x))
        return ops.sum(slope**2)

    for run in (lambda f: f, compiled):
        value, gradient = run(kr.autodiff.value_and_grad(penalty_by_autodiff))(tensor(w))
        np.testing.assert_allclose(array(value), penalty(w), rtol=1e-5)
        np.testing.assert_allclose(array(gradient), slopes(penalty, w), rtol=1e-4, atol=1e-4)


def test_compiled_equals_eager():
    w = tree.map_structure(tensor, parts(3))
    fn = kr.autodiff.value_and_grad(lambda w: network(w, ops))
    eager, jitted = fn(w), compiled(fn)(w)
    for a, b in zip(tree.flatten(eager), tree.flatten(jitted)):
        np.testing.assert_allclose(array(a), array(b), rtol=1e-5, atol=1e-6)


def test_the_same_tensor_elsewhere_is_a_constant():
    x = tensor([2.0, 3.0])
    np.testing.assert_array_equal(array(kr.autodiff.grad(lambda z: ops.sum(z * x))(x)), [2.0, 3.0])
    _, product = kr.autodiff.vjp(lambda z: z * x, x, ops.ones((2,)))
    np.testing.assert_array_equal(array(product), [2.0, 3.0])
    _, product = kr.autodiff.jvp(lambda z: z * x, x, ops.ones((2,)))
    np.testing.assert_array_equal(array(product), [2.0, 3.0])
    gradient, product = kr.autodiff.hvp(lambda z: ops.sum(z**2 * x), x, ops.ones((2,)))
    np.testing.assert_array_equal(array(gradient), [8.0, 18.0])
    np.testing.assert_array_equal(array(product), [4.0, 6.0])


def test_the_outer_variable_stays_connected():
    # Inside, x is a constant of the inner derivative, and the variable of the outer one.
    def inner(x):
        return ops.sum(kr.autodiff.grad(lambda z: ops.sum(z**2 * x))(x))  # 2 x²

    np.testing.assert_allclose(array(kr.autodiff.grad(inner)(tensor([2.0, 3.0]))), [8.0, 12.0])


def test_variables_and_plain_numbers_as_input():
    variable = keras.Variable([1.0, 2.0])
    value, gradient = kr.autodiff.value_and_grad(lambda x: ops.sum(x**3))(variable)
    assert array(value) == 9.0
    np.testing.assert_array_equal(array(gradient), [3.0, 12.0])
    gradient = kr.autodiff.grad(lambda x: x["a"] ** 2)({"a": 3.0})
    assert array(gradient["a"]) == 6.0
    gradient, product = kr.autodiff.hvp(lambda x: ops.sum(x**3), variable, ops.ones((2,)))
    np.testing.assert_array_equal(array(product), [6.0, 12.0])
    # Reading it inside gives the variable's value, not the differentiated argument.
    gradient = kr.autodiff.grad(lambda x: ops.sum(x * variable))(variable)
    np.testing.assert_array_equal(array(gradient), [1.0, 2.0])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_floating_types(dtype):
    x = ops.convert_to_tensor(np.array([0.5, 2.0]))  # JAX makes float32 of float64
    x = ops.cast(x, dtype) if dtype != "float64" else x
    value, gradient = kr.autodiff.value_and_grad(lambda x: ops.sum(x**3))(x)
    _, product = kr.autodiff.hvp(lambda x: ops.sum(x**3), x, np.ones(2))
    _, tangent = kr.autodiff.jvp(lambda x: x**3, x, np.ones(2))
    for result in (value, gradient, product, tangent):
        assert result.dtype == x.dtype
    tolerance = 1e-2 if "16" in dtype else 1e-6
    for result, expected in ((gradient, [0.75, 12.0]), (product, [3.0, 12.0])):
        np.testing.assert_allclose(array(ops.cast(result, "float32")), expected, rtol=tolerance)


def test_integer_input_is_an_error():
    with pytest.raises(ValueError, match="Only floating tensors .* Received dtype int32"):
        kr.autodiff.grad(lambda x: ops.sum(x["a"]))({"a": tensor([1, 2], "int32")})
    with pytest.raises(ValueError, match="Only floating tensors"):
        kr.autodiff.jvp(lambda x: x, tensor([1], "int32"), tensor([1.0]))


def test_non_scalar_value_is_an_error():
    with pytest.raises(ValueError, match=r"Only a scalar .* use `vjp`.* shape \(2,\)"):
        kr.autodiff.grad(lambda x: x**2)(tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match=r"shape \(1,\)"):
        kr.autodiff.value_and_grad(lambda x: (x**2, None), has_aux=True)(tensor([1.0]))


@pytest.mark.skipif(BACKEND != "torch", reason="only torch records outside of a derivative")
def test_no_graph_is_kept_without_recording():
    import torch

    x, ones = torch.tensor([1.0, 2.0]), torch.ones(2)
    weight = torch.ones(2, requires_grad=True)

    def fn(x):
        return ops.sum(x**3 * weight), {"aux": x * weight, "nothing": None}

    def results():
        (value, aux), gradient = kr.autodiff.value_and_grad(fn, has_aux=True)(x)
        return [
            value,
            gradient,
            aux["aux"],
            *kr.autodiff.vjp(lambda x: x**2 * weight, x, ones),
            *kr.autodiff.jvp(lambda x: x**2 * weight, x, ones),
            *kr.autodiff.hvp(lambda x: fn(x)[0], x, ones),
            kr.autodiff.input_gradient(lambda x: x**2 * weight, x),
        ]

    with torch.no_grad():
        assert not any(result.requires_grad for result in results())
        assert not torch.is_grad_enabled()
    assert all(result.requires_grad for result in results())
    assert torch.is_grad_enabled()


@pytest.mark.skipif(BACKEND != "torch", reason="a mode of torch")
def test_inference_mode_is_an_error_instead_of_zeros():
    import torch

    with torch.inference_mode(), pytest.raises(ValueError, match="inference_mode"):
        kr.autodiff.grad(lambda x: ops.sum(x**2))(torch.ones(2))


# vjp, jvp, hvp


def test_vector_jacobian_product():
    rng = np.random.default_rng(2)
    a, x, u, v = rng.normal(size=(3, 2)), rng.normal(size=2), rng.normal(size=3), rng.normal(size=2)
    jacobian = np.cos(a @ x)[:, None] * a

    def fn(x):
        return {"sine": ops.sin(ops.matmul(tensor(a), x["x"])), "twice": [2 * x["x"]]}

    # NumPy vectors of another precision are taken as well.
    value, product = kr.autodiff.vjp(fn, {"x": tensor(x)}, {"sine": u, "twice": [v]})
    np.testing.assert_allclose(array(value["sine"]), np.sin(a @ x), rtol=1e-5)
    np.testing.assert_allclose(array(product["x"]), u @ jacobian + 2 * v, rtol=1e-4, atol=1e-6)

    value, product = kr.autodiff.jvp(fn, {"x": tensor(x)}, {"x": v})
    np.testing.assert_allclose(array(value["sine"]), np.sin(a @ x), rtol=1e-5)
    np.testing.assert_allclose(array(product["sine"]), jacobian @ v, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(array(product["twice"][0]), 2 * v, rtol=1e-5)


def test_jvp_is_zero_where_unconnected():
    x = tensor([1.0, 2.0])
    value, product = kr.autodiff.jvp(lambda x: {"a": x**2, "b": ops.ones((3,))}, x, ops.ones((2,)))
    np.testing.assert_array_equal(array(value["b"]), [1.0, 1.0, 1.0])
    np.testing.assert_array_equal(array(product["a"]), [2.0, 4.0])
    np.testing.assert_array_equal(array(product["b"]), [0.0, 0.0, 0.0])


def test_gradient_of_a_jvp():
    def cube_along_one(x):
        return kr.autodiff.jvp(lambda x: x**3, x, ops.ones(()))[1]

    gradient = kr.autodiff.grad(cube_along_one)
    assert array(gradient(tensor(3.0))) == 18.0
    assert array(compiled(gradient)(tensor(3.0))) == 18.0


def test_forward_over_reverse_is_the_hessian_vector_product():
    x, v = tensor([1.0, 2.0]), tensor([1.0, -1.0])

    def along(x):
        return kr.autodiff.jvp(kr.autodiff.grad(lambda x: ops.sum(x**4)), x, v)

    for run in (lambda f: f, compiled):
        gradient, product = run(along)(x)
        np.testing.assert_allclose(array(gradient), [4.0, 32.0], rtol=1e-6)
        np.testing.assert_allclose(array(product), [12.0, -48.0], rtol=1e-6)
    third = kr.autodiff.grad(lambda x: ops.sum(along(x)[1]))(x)
    np.testing.assert_allclose(array(third), [24.0, -48.0], rtol=1e-6)


def test_jvp_of_attention():
    rng = np.random.default_rng(8)
    x, v = rng.normal(size=(3, 1, 2, 1, 2)), rng.normal(size=(3, 1, 2, 1, 2))
    step = 1e-5
    expected = (attend(*(x + step * v)) - attend(*(x - step * v))) / (2 * step)

    def fn(x):
        return ops.dot_product_attention(x[0], x[1], x[2])

    value, product = compiled(lambda x, v: kr.autodiff.jvp(fn, x, v))(tensor(x), tensor(v))
    np.testing.assert_allclose(array(value), attend(*x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(array(product), expected, rtol=1e-3, atol=1e-4)


def test_shapes_and_structures_must_agree():
    x = tensor([1.0, 2.0])
    with pytest.raises(ValueError, match=r"Expected \(2,\), received \(3,\)"):
        kr.autodiff.vjp(lambda x: x, x, ops.ones((3,)))
    with pytest.raises(ValueError, match=r"Expected \(2,\), received \(1,\)"):
        kr.autodiff.hvp(lambda x: ops.sum(x**2), x, ops.ones((1,)))
    with pytest.raises(ValueError, match=r"Expected \(2,\), received \(1,\)"):
        kr.autodiff.jvp(lambda x: x**2, x, ops.ones((1,)))
    with pytest.raises(ValueError, match="dict"):
        kr.autodiff.jvp(lambda x: x["a"], {"a": x}, [ops.ones((2,))])


def test_hessian_vector_product_against_the_dense_hessian():
    rng = np.random.default_rng(4)
    a, x, v = rng.normal(size=(5, 3)), rng.normal(size=3), rng.normal(size=3)
    hessian = a.T @ np.diag(np.exp(a @ x)) @ a

    def fn(x):
        return ops.sum(ops.exp(ops.matmul(tensor(a), x)))

    for run in (lambda f: f, compiled):
        gradient, product = run(lambda x, v: kr.autodiff.hvp(fn, x, v))(tensor(x), tensor(v))
        np.testing.assert_allclose(array(gradient), a.T @ np.exp(a @ x), rtol=1e-4)
        np.testing.assert_allclose(array(product), hessian @ v, rtol=1e-4)
    columns = [array(kr.autodiff.hvp(fn, tensor(x), tensor(e))[1]) for e in np.eye(3)]
    np.testing.assert_allclose(np.stack(columns), hessian, rtol=1e-4)


def test_hessian_vector_product_over_a_structure():
    w, v = parts(5), parts(6)
    sizes = [leaf.size for leaf in tree.flatten(w)]

    def flat(structure):
        return np.concatenate([leaf.reshape(-1) for leaf in tree.flatten(structure)])

    def from_flat(x):
        pieces = np.split(x, np.cumsum(sizes)[:-1])
        shaped = [p.reshape(leaf.shape) for p, leaf in zip(pieces, tree.flatten(w))]
        return network(tree.pack_sequence_as(w, shaped), np)

    gradient, product = kr.autodiff.hvp(
        lambda w: network(w, ops), tree.map_structure(tensor, w), tree.map_structure(tensor, v)
    )
    tree.assert_same_structure(product, w)
    found = flat(tree.map_structure(array, product))
    expected = curvature_along(from_flat, flat(w), flat(v))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    found = flat(tree.map_structure(array, gradient))
    np.testing.assert_allclose(found, slopes(from_flat, flat(w)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_products_are_adjoint(seed):
    rng = np.random.default_rng(seed)
    a, x, u, v = (tensor(rng.normal(size=s)) for s in ((4, 3), (3,), (3,), (4,)))

    def fn(x):
        return ops.tanh(ops.matmul(a, x)) * ops.exp(ops.sum(x))

    forward = ops.sum(v * kr.autodiff.jvp(fn, x, u)[1])
    reverse = ops.sum(u * kr.autodiff.vjp(fn, x, v)[1])
    np.testing.assert_allclose(array(forward), array(reverse), rtol=1e-4)


# Layers whose derivatives are special


def test_embedding_gathers_have_dense_derivatives():
    ids = np.array([[0, 2, 2], [4, 2, 0]])
    counts = np.bincount(ids.reshape(-1), minlength=5)[:, None]
    table = np.random.default_rng(0).normal(size=(5, 2))
    layer = keras.layers.Embedding(5, 2)
    layer.build()

    def by_layer(w):
        return ops.sum(ops.sin(layer.stateless_call([w], [], ids)[0]))

    def by_gather(w):
        return ops.sum(ops.sin(ops.take(w, ids, axis=0)))

    vector = np.random.default_rng(1).normal(size=(5, 2))
    for fn in (by_layer, by_gather):
        for run in (lambda f: f, compiled):
            gradient, product = run(lambda w, v, fn=fn: kr.autodiff.hvp(fn, w, v))(
                tensor(table), tensor(vector)
            )
            np.testing.assert_allclose(
                array(gradient), counts * np.cos(table), rtol=1e-4, atol=1e-6
            )
            expected = -counts * np.sin(table) * vector
            np.testing.assert_allclose(array(product), expected, rtol=1e-4, atol=1e-6)

    def third(w):
        return ops.sum(kr.autodiff.grad(lambda w: ops.sum(kr.autodiff.grad(by_gather)(w)))(w))

    gradient = kr.autodiff.grad(third)(tensor(table))
    np.testing.assert_allclose(array(gradient), -counts * np.cos(table), rtol=1e-4, atol=1e-6)


def attend(query, key, value):
    """Scaled dot-product attention of `(batch, time, heads, size)` in NumPy."""
    scores = np.einsum("bthd,bshd->bhts", query, key) / np.sqrt(query.shape[-1])
    return np.einsum("bhts,bshd->bthd", softmax(scores), value)


def test_second_derivative_of_dot_product_attention():
    rng = np.random.default_rng(3)
    x, v = rng.normal(size=(3, 1, 2, 1, 2)), rng.normal(size=(3, 1, 2, 1, 2))

    def expected(x):
        return np.sum(attend(*x) ** 2)

    def fn(x):
        return ops.sum(ops.dot_product_attention(x[0], x[1], x[2]) ** 2)

    gradient, product = compiled(lambda x, v: kr.autodiff.hvp(fn, x, v))(tensor(x), tensor(v))
    np.testing.assert_allclose(array(gradient), slopes(expected, x), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        array(product), curvature_along(expected, x, v), rtol=1e-3, atol=1e-4
    )


def test_second_derivative_of_multi_head_attention():
    rng = np.random.default_rng(5)
    x, v = rng.normal(size=(1, 3, 2)), rng.normal(size=(1, 3, 2))
    layer = keras.layers.MultiHeadAttention(num_heads=2, key_dim=2)
    layer.build(x.shape, x.shape)
    weights = {w.path.split("/", 1)[1]: array(w.value).astype("float64") for w in layer.weights}

    def project(x, name):
        return np.einsum("btd,dhk->bthk", x, weights[f"{name}/kernel"]) + weights[f"{name}/bias"]

    def expected(x):
        mixed = attend(project(x, "query"), project(x, "key"), project(x, "value"))
        out = np.einsum("bthk,hkd->btd", mixed, weights["attention_output/kernel"])
        return np.sum((out + weights["attention_output/bias"]) ** 2)

    def fn(x):
        return ops.sum(layer(x, x) ** 2)

    gradient, product = compiled(lambda x, v: kr.autodiff.hvp(fn, x, v))(tensor(x), tensor(v))
    np.testing.assert_allclose(array(gradient), slopes(expected, x), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        array(product), curvature_along(expected, x, v), rtol=1e-3, atol=1e-4
    )


# Inside models


class Field(keras.layers.Layer):
    """Gradient of the energy `(x·w)²/2 + Σ tanh(x)`, with `w` to be learned."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1],), initializer="ones", name="w")

    def energy(self, x):
        return ops.matmul(x, ops.convert_to_tensor(self.w)) ** 2 / 2 + ops.sum(ops.tanh(x), axis=-1)

    def call(self, x):
        return kr.autodiff.input_gradient(self.energy, x)


def field(w, x):
    return (x @ w)[:, None] * w + 1 - np.tanh(x) ** 2


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_input_gradient_in_fit_and_predict(run_eagerly):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 2)), rng.normal(size=(6, 2))
    layer = Field()
    model = keras.Sequential([keras.Input((2,)), layer])
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=run_eagerly)
    w = np.ones(2)
    np.testing.assert_allclose(model.predict(x, verbose=0), field(w, x), rtol=1e-4, atol=1e-5)

    model.fit(x, y, batch_size=6, epochs=2, verbose=0)
    for _ in range(2):
        w = w - 0.1 * slopes(lambda w: np.mean((field(w, x) - y) ** 2), w)
    np.testing.assert_allclose(array(layer.w.value), w, rtol=1e-4)
    np.testing.assert_allclose(model.predict(x, verbose=0), field(w, x), rtol=1e-4, atol=1e-5)
    model.evaluate(x, y, verbose=0)


def test_attention_inside_a_trained_input_gradient():
    class Scorer(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.attention = keras.layers.MultiHeadAttention(1, 2)

        def build(self, shape):
            self.attention.build(shape, shape)

        def call(self, x):
            return kr.autodiff.input_gradient(lambda x: self.attention(x, x) ** 2, x)

    model = keras.Sequential([keras.Input((3, 2)), Scorer()])
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(4, 3, 2))
    before = [array(w.value) for w in model.trainable_variables]
    history = model.fit(x, np.zeros_like(x), verbose=0, epochs=2)
    assert np.isfinite(history.history["loss"]).all()
    query = array(model.trainable_variables[0].value)
    assert np.abs(query - before[0]).max() > 0  # moves through the second derivative alone


def test_input_gradient_is_per_sample_for_a_dictionary():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(4, 3)), rng.normal(size=(4, 2))
    gradient = kr.autodiff.input_gradient(
        lambda x: ops.sum(x["a"] ** 2, axis=-1) * ops.sum(x["b"], axis=-1),
        {"a": tensor(a), "b": tensor(b)},
    )
    np.testing.assert_allclose(
        array(gradient["a"]), 2 * a * b.sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        array(gradient["b"]), np.repeat((a**2).sum(axis=1, keepdims=True), 2, axis=1), rtol=1e-4
    )


def test_any_batch_size():
    def fn(x):
        return kr.autodiff.hvp(lambda x: ops.sum(x**3), x, ops.ones_like(x))

    if BACKEND == "tensorflow":
        import tensorflow as tf

        fn = tf.function(fn, input_signature=[tf.TensorSpec((None, 2))])
        shapes = tree.map_structure(
            lambda t: t.shape, fn.get_concrete_function().structured_outputs
        )
        assert [tuple(shape) for shape in shapes] == [(None, 2), (None, 2)]
    else:
        fn = compiled(fn)
    for rows in (1, 3, 0):
        gradient, product = fn(tensor(2 * np.ones((rows, 2))))
        np.testing.assert_array_equal(array(gradient), np.full((rows, 2), 12.0))
        np.testing.assert_array_equal(array(product), np.full((rows, 2), 12.0))


# straight_through


def test_straight_through():
    x = tensor([0.3, -2.0, 1e8])

    def fn(x):
        return kr.autodiff.straight_through(ops.sign(x) * 0.1, x**2)

    np.testing.assert_array_equal(array(fn(x)), np.float32([0.1, -0.1, 0.1]))
    np.testing.assert_allclose(
        array(kr.autodiff.grad(lambda x: ops.sum(fn(x)))(x)), [0.6, -4.0, 2e8], rtol=1e-6
    )
    _, product = kr.autodiff.hvp(lambda x: ops.sum(fn(x)), x, ops.ones((3,)))
    np.testing.assert_array_equal(array(product), [2.0, 2.0, 2.0])


CONVOLUTIONS = {
    "conv1d": lambda x, k: ops.conv(x[:, 0], k[0], padding="same"),
    "conv2d": lambda x, k: ops.conv(x, k, padding="valid"),
    "conv3d": lambda x, k: ops.conv(x[:, None], k[None], padding="same"),
    "strided": lambda x, k: ops.conv(x, k, strides=(2, 1), padding="same"),
    "dilated": lambda x, k: ops.conv(x, k, padding="same", dilation_rate=(1, 2)),
    "depthwise": lambda x, k: ops.depthwise_conv(x, k, padding="valid"),
    "transposed": lambda x, k: ops.conv_transpose(
        x, ops.swapaxes(k, 2, 3), strides=2, padding="same"
    ),
}


@pytest.mark.filterwarnings("ignore:(?s).*inconsistencies across backends")  # Of older Keras.
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_gradients_of_convolutions_in_branches_are_those_outside(name):
    rng = np.random.default_rng(0)
    x = ops.convert_to_tensor(rng.normal(size=(3, 7, 6, 4)).astype("float32"))
    kernel = ops.convert_to_tensor(rng.normal(size=(3, 2, 4, 5)).astype("float32"))

    def gradients():
        loss = lambda pair: ops.sum(ops.sin(CONVOLUTIONS[name](*pair)))  # noqa: E731
        return kr.autodiff.grad(loss)([x, kernel])

    def branch(flag):
        zeros = lambda: [ops.zeros_like(x), ops.zeros_like(kernel)]  # noqa: E731
        return ops.cond(flag, backend.in_branch(gradients), zeros)

    for found, expected in zip(compiled(branch)(ops.convert_to_tensor(True)), gradients()):
        np.testing.assert_allclose(array(found), array(expected), rtol=1e-4, atol=1e-4)


def layouts(fn):
    """`(lhs, rhs, out)` specifications of all convolutions in the trace of a function, those in calls too."""
    import jax

    def found(jaxpr):
        for eqn in jaxpr.eqns:
            if eqn.primitive.name == "conv_general_dilated":
                yield tuple(eqn.params["dimension_numbers"])
            elif eqn.primitive.name == "jit":
                yield from found(eqn.params["jaxpr"].jaxpr)

    return list(found(jax.make_jaxpr(fn)().jaxpr))


@pytest.mark.skipif(
    BACKEND != "jax", reason="XLA brings convolutions into a layout, but in branches"
)
@pytest.mark.parametrize("nested", [False, True])
def test_convolutions_in_branches_have_the_layout_of_the_fast_kernel(nested):
    x, kernel = ops.ones((3, 7, 6, 4)), ops.ones((3, 2, 4, 5))

    def gradients():
        return kr.autodiff.grad(lambda pair: ops.sum(ops.conv(*pair)))([x, kernel])

    fn = compiled(gradients) if nested else gradients
    fast = ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
    outside, inside = layouts(fn), layouts(backend.in_branch(fn))
    assert len(outside) == len(inside) == 3
    assert set(inside) == {fast} != set(outside)


@pytest.mark.skipif(BACKEND != "jax", reason="primitives of JAX")
def test_a_jax_without_the_primitives_is_told_of(monkeypatch):
    from keras_regularize.autodiff import _jax_convolutions

    monkeypatch.setattr(_jax_convolutions, "_JIT", None)
    with pytest.warns(UserWarning, match="lacks `conv_general_dilated_p` or `jit_p`"):
        assert backend.in_branch(layouts) is layouts


@pytest.mark.skipif(BACKEND != "jax", reason="parameters of JAX")
def test_a_convolution_with_an_unknown_parameter_stays_as_it_is():
    from keras_regularize.autodiff._jax_convolutions import _is_known

    assert _is_known({"padding": ((0, 0),), "news": None})
    assert not _is_known({"padding": ((0, 0),), "news": 1})


@pytest.mark.skipif(BACKEND != "jax", reason="elsewhere Keras passes no state")
@pytest.mark.parametrize("change", ["groups", "variables"])
def test_a_state_that_is_split_in_another_way_is_an_error(change):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    groups = (model.trainable_variables, model.non_trainable_variables, model.metrics_variables)
    state = [[v.value for v in group] for group in groups]
    backend.test_step(model, lambda data: data, (state, None))
    state = state[:-1] if change == "groups" else [state[0][:-1], *state[1:]]
    with pytest.raises(ValueError, match="zip"):
        backend.test_step(model, lambda data: data, (state, None))


def test_products_that_keep_their_graph_are_those_of_the_hessian():
    fn = lambda w: ops.sum(w[0] ** 3) * w[1]  # noqa: E731
    x = [tensor([1.0, 2.0]), tensor(3.0)]
    products = backend.hessian_products(fn, x)
    vector = [tensor([1.0, 1.0]), tensor(1.0)]
    if products is None:  # Where programs are compiled.
        products = lambda v: kr.autodiff.hvp(fn, x, v)[1]  # noqa: E731
    for _ in range(2):
        first, second = products(vector)
        np.testing.assert_allclose(array(first), [21, 48])
        assert float(array(second)) == 15
