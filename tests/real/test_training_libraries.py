"""Trainers in the libraries that people train with."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from optimized import optimized_jit

pytestmark = pytest.mark.real

STEPS = 6
X = np.random.default_rng(0).normal(size=(32, 8)).astype(np.float32)
Y = X @ np.arange(8, dtype=np.float32)


def assert_falls(points):
    """Assert that the loss has a point at each step and falls."""
    assert [step for step, _ in points] == list(range(STEPS))
    values = [float(value) for _, value in points]
    assert values[-1] < values[0]


def test_flax_nnx(points_of):
    """An NNX model with dropout and batch norm, its optimizer updated in place."""
    nnx = pytest.importorskip("flax.nnx")

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.hidden = nnx.Linear(8, 16, rngs=rngs)
            self.norm = nnx.BatchNorm(16, rngs=rngs)
            self.dropout = nnx.Dropout(0.1, rngs=rngs)
            self.out = nnx.Linear(16, 1, rngs=rngs)

        def __call__(self, x):
            return self.out(self.dropout(nnx.relu(self.norm(self.hidden(x)))))[:, 0]

    def program(jb):
        model = Model(nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)

        @jb.instrument
        @nnx.jit
        def train_step(model, optimizer, x, y):
            def loss_fn(model):
                loss = jnp.mean((model(x) - y) ** 2)
                jb.scalar("loss", loss)
                return loss

            optimizer.update(model, nnx.grad(loss_fn)(model))

        for _ in range(STEPS):
            train_step(model, optimizer, X, Y)
        return nnx.state(model)

    assert_falls(points_of(program)["loss"])


def test_flax_linen(points_of):
    """A Linen TrainState whose own step numbers the points."""
    linen = pytest.importorskip("flax.linen")
    train_state = pytest.importorskip("flax.training.train_state")

    class Model(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(1)(linen.relu(linen.Dense(16)(x)))[:, 0]

    def program(jb):
        model = Model()
        state = train_state.TrainState.create(
            apply_fn=model.apply,
            params=model.init(jax.random.key(0), X),
            tx=optax.adam(1e-2),
        )

        @jax.jit
        def step(state, x, y):
            def loss_fn(params):
                loss = jnp.mean((state.apply_fn(params, x) - y) ** 2)
                jb.scalar("loss", loss)
                return loss

            return state.apply_gradients(grads=jax.grad(loss_fn)(state.params))

        step = jb.instrument(step, step=lambda state, *_: state.step)
        for _ in range(STEPS):
            state = step(state, X, Y)
        return state.params

    assert_falls(points_of(program)["loss"])


def test_equinox(points_of):
    """An Equinox MLP under ``filter_jit`` and ``filter_value_and_grad``."""
    eqx = pytest.importorskip("equinox")

    def program(jb):
        model = eqx.nn.MLP(8, "scalar", 16, 2, key=jax.random.key(0))
        optimizer = optax.adam(1e-2)
        state = optimizer.init(eqx.filter(model, eqx.is_array))

        @jb.instrument
        @eqx.filter_jit
        def step(model, state, x, y):
            @eqx.filter_grad
            def gradient_of(model):
                loss = jnp.mean((jax.vmap(model)(x) - y) ** 2)
                jb.scalar("loss", loss)
                return loss

            updates, state = optimizer.update(gradient_of(model), state)
            return eqx.apply_updates(model, updates), state

        for _ in range(STEPS):
            model, state = step(model, state, X, Y)
        return eqx.filter(model, eqx.is_array)

    assert_falls(points_of(program)["loss"])


def test_haiku(points_of):
    """A Haiku transform whose module reports from its call."""
    hk = pytest.importorskip("haiku")

    def program(jb):
        def forward(x, y):
            loss = jnp.mean((hk.nets.MLP([16, 1])(x)[:, 0] - y) ** 2)
            jb.scalar("loss", loss)
            return loss

        model = hk.without_apply_rng(hk.transform(forward))
        params = model.init(jax.random.key(0), X, Y)

        @jb.instrument
        @optimized_jit
        def step(params, x, y):
            gradient = jax.grad(model.apply)(params, x, y)
            return jax.tree.map(lambda p, g: p - 0.01 * g, params, gradient)

        for _ in range(STEPS):
            params = step(params, X, Y)
        return params

    points = points_of(program)["loss"]
    # The call of init reports too, before the first step.
    assert sorted({step for step, _ in points}) == list(range(STEPS))


def test_optax_multi_steps(points_of):
    """Gradient accumulation: the update is a cond inside the optimizer."""

    def program(jb):
        optimizer = optax.MultiSteps(optax.adam(1e-2), every_k_schedule=2)
        w = jnp.zeros(8)
        state = optimizer.init(w)

        @jb.instrument
        @optimized_jit
        def step(w, state, x, y):
            def loss_fn(w):
                loss = jnp.mean((x @ w - y) ** 2)
                jb.scalar("loss", loss)
                return loss

            updates, state = optimizer.update(jax.grad(loss_fn)(w), state, w)
            jb.scalar("updated", optimizer.has_updated(state).astype(jnp.float32))
            return optax.apply_updates(w, updates), state

        for _ in range(STEPS):
            w, state = step(w, state, X, Y)
        return w

    points = points_of(program)
    assert_falls(points["loss"])
    assert [float(value) for _, value in points["updated"]] == [0, 1, 0, 1, 0, 1]


def test_fsdp_and_tensor_parallel(points_of):
    """A model sharded over four data-parallel and two tensor-parallel devices."""
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)

    def put(array, *spec):
        return jax.device_put(array, NamedSharding(mesh, PartitionSpec(*spec)))

    def program(jb):
        keys = jax.random.split(jax.random.key(0), 2)
        params = {
            "in": put(jax.random.normal(keys[0], (8, 16)) / 3, "data", "model"),
            "out": put(jax.random.normal(keys[1], (16, 1)) / 4, "model", None),
        }
        x, y = put(X, "data"), put(Y, "data")

        @jb.instrument
        @optimized_jit
        def step(params, x, y):
            def loss_fn(params):
                predicted = (jax.nn.relu(x @ params["in"]) @ params["out"])[:, 0]
                loss = jnp.mean((predicted - y) ** 2)
                jb.scalar("loss", loss)
                return loss

            gradient = jax.grad(loss_fn)(params)
            return jax.tree.map(lambda p, g: p - 1e-3 * g, params, gradient)

        for _ in range(STEPS):
            params = step(params, x, y)
        return params

    assert_falls(points_of(program)["loss"])
