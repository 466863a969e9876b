"""Convolutions in branches and loops on CPUs, laid out by us since XLA does not."""

import warnings

import jax
from jax.extend import core

# Of the thing itself, since a name that JAX changes would switch the layout off without a word.
_CONVOLUTION = getattr(core.primitives, "conv_general_dilated_p", None)
_JIT = getattr(core.primitives, "jit_p", None)


def in_branch(fn):
    """`fn`, to be traced as the body of a branch or loop, its convolutions in the layout of XLA's fast kernel.

    XLA for CPUs brings convolutions into that layout everywhere but in branches and loops, where those of a
    gradient then take 8 (of inputs) to 70 times (of kernels) as long. On other devices `fn` itself.
    """
    if jax.default_backend() != "cpu":
        return fn
    if _CONVOLUTION is None or _JIT is None:
        warnings.warn(
            f"jax {jax.__version__} lacks `conv_general_dilated_p` or `jit_p` in `jax.extend.core.primitives`, "
            "by which convolutions in branches and loops are found. Their gradients are right, but on CPUs may "
            "take 70 times as long."
        )
        return fn

    def traced(*args):
        closed, shapes = jax.make_jaxpr(fn, return_shape=True)(*args)
        outputs = _run(closed.jaxpr, closed.consts, jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    return traced


def _run(jaxpr, consts, args):
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))
    for eqn in jaxpr.eqns:
        inputs = [v.val if isinstance(v, core.Literal) else values[v] for v in eqn.invars]
        if eqn.primitive is _CONVOLUTION and _is_known(eqn.params):
            image, kernel = inputs
            outputs = [_convolve(image, kernel, eqn.params)]
        elif eqn.primitive is _JIT:
            inner = eqn.params["jaxpr"]
            outputs = _run(inner.jaxpr, inner.consts, inputs)
        else:
            free = {v: x for v, x in zip(eqn.invars, inputs) if not isinstance(v, core.Literal)}
            alone = jaxpr.replace(constvars=(), invars=[*free], outvars=eqn.outvars, eqns=[eqn])
            outputs = core.jaxpr_as_fun(core.ClosedJaxpr(alone, ()))(*free.values())
        values.update(zip(eqn.outvars, outputs))
    return [v.val if isinstance(v, core.Literal) else values[v] for v in jaxpr.outvars]


def _is_known(params):
    """Whether `_convolve` passes on all that a convolution was told; any other one stays as it is."""
    return all(
        key in (*_PARAMETERS, "dimension_numbers") or value is None for key, value in params.items()
    )


def _convolve(inputs, kernel, params):
    """The same convolution, with channels last in all three tensors."""
    axes = params["dimension_numbers"]
    (batch, channels, *space), (outputs, features, *window), (rows, maps, *places) = axes
    spatial = "DHW"[-len(space) :]
    result = jax.lax.conv_general_dilated(
        jax.numpy.transpose(inputs, (batch, *space, channels)),
        jax.numpy.transpose(kernel, (*window, features, outputs)),
        dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
        **{key: params[key] for key in _PARAMETERS},
    )
    return jax.numpy.moveaxis(result, range(result.ndim), (rows, *places, maps))


_PARAMETERS = (
    "window_strides",
    "padding",
    "lhs_dilation",
    "rhs_dilation",
    "feature_group_count",
    "batch_group_count",
    "precision",
    "preferred_element_type",
)
