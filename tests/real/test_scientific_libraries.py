"""Solvers, samplers and simulators, each driving the loop that reports."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

pytestmark = pytest.mark.real

STEPS = 5


def test_diffrax(points_of):
    """A neural ODE that is fitted through the solver; the vector field reports nothing."""
    diffrax = pytest.importorskip("diffrax")

    def program(jb):
        times = jnp.linspace(0, 1, 8)
        target = jnp.exp(-times)

        @jb.instrument
        @jax.jit
        def step(rate):
            def loss_fn(rate):
                solution = diffrax.diffeqsolve(
                    diffrax.ODETerm(lambda t, y, rate: -rate * y),
                    diffrax.Tsit5(),
                    t0=0,
                    t1=1,
                    dt0=0.1,
                    y0=jnp.float32(1),
                    args=rate,
                    saveat=diffrax.SaveAt(ts=times),
                )
                loss = jnp.mean((solution.ys - target) ** 2)
                jb.scalar("loss", loss)
                return loss

            return rate - jax.grad(loss_fn)(rate)

        rate = jnp.float32(2)
        for _ in range(STEPS):
            rate = step(rate)
        return rate

    points = points_of(program)["loss"]
    assert [step for step, _ in points] == list(range(STEPS))


def test_numpyro_svi(points_of):
    """Variational inference: the update of ``SVI`` is the step."""
    numpyro = pytest.importorskip("numpyro")
    from numpyro import distributions
    from numpyro.infer import SVI, Trace_ELBO
    from numpyro.infer.autoguide import AutoNormal

    def model(data):
        mean = numpyro.sample("mean", distributions.Normal(0, 10))
        numpyro.sample("data", distributions.Normal(mean, 1), obs=data)

    def program(jb):
        data = jnp.asarray(np.random.default_rng(0).normal(3, 1, 100), jnp.float32)
        svi = SVI(model, AutoNormal(model), numpyro.optim.Adam(0.1), Trace_ELBO())
        state = svi.init(jax.random.key(0), data)

        @jb.instrument
        @jax.jit
        def step(state, data):
            state, loss = svi.update(state, data)
            jb.scalar("loss", loss)
            return state

        for _ in range(STEPS):
            state = step(state, data)
        return svi.get_params(state)

    points = points_of(program)["loss"]
    assert [step for step, _ in points] == list(range(STEPS))


def test_blackjax(points_of):
    """A NUTS chain in a scan that is streamed: each draw is a step."""
    blackjax = pytest.importorskip("blackjax")

    def program(jb):
        sampler = blackjax.nuts(
            lambda x: -0.5 * jnp.sum(x**2), step_size=0.5, inverse_mass_matrix=jnp.ones(2)
        )

        @jb.instrument(stream=4)
        @jax.jit
        def chain(key, state):
            def draw(state, key):
                state, info = sampler.step(key, state)
                jb.scalar("acceptance", info.acceptance_rate)
                jb.scalar("divergent", info.is_divergent.astype(jnp.float32), reduce="sum")
                return state, state.position

            return jax.lax.scan(draw, state, jax.random.split(key, 10))

        return chain(jax.random.key(0), sampler.init(jnp.ones(2)))

    points = points_of(program)
    assert [step for step, _ in points["acceptance"]] == list(range(10))
    assert sum(float(value) for _, value in points["divergent"]) == 0


def test_brax(points_of):
    """A rollout of an environment in a scan, its reward averaged over a batch of environments."""
    envs = pytest.importorskip("brax.envs")

    def program(jb):
        environment = envs.get_environment("fast")

        @jb.instrument
        @jax.jit
        def rollout(keys):
            def one(key):
                state = environment.reset(key)

                def act(state, _):
                    state = environment.step(state, jnp.ones(environment.action_size))
                    jb.scalar("reward", state.reward)
                    return state, state.reward

                return jax.lax.scan(act, state, None, 8)[1]

            return jax.vmap(one)(keys)

        return [rollout(jax.random.split(jax.random.key(i), 4)) for i in range(STEPS)]

    points = points_of(program)["reward"]
    assert [step for step, _ in points] == list(range(STEPS))


def test_rlax(points_of):
    """Temporal-difference learning with a batched loss function."""
    rlax = pytest.importorskip("rlax")

    def program(jb):
        generator = np.random.default_rng(0)
        observations = jnp.asarray(generator.normal(size=(16, 4)), jnp.float32)
        rewards = jnp.asarray(generator.normal(size=16), jnp.float32)
        optimizer = optax.sgd(0.1)
        w = jnp.zeros(4)
        state = optimizer.init(w)

        @jb.instrument
        @jax.jit
        def step(w, state):
            def loss_fn(w):
                values = observations @ w
                errors = jax.vmap(rlax.td_learning)(
                    values, rewards, jnp.full(16, 0.9), jnp.roll(values, -1)
                )
                jb.scalar("td_error", jnp.abs(errors).mean())
                return jnp.mean(errors**2)

            updates, state = optimizer.update(jax.grad(loss_fn)(w), state)
            return optax.apply_updates(w, updates), state

        for _ in range(STEPS):
            w, state = step(w, state)
        return w

    points = points_of(program)["td_error"]
    assert [step for step, _ in points] == list(range(STEPS))


def test_rejax_with_seeds(records_of):
    """A whole training run of several seeds in one jitted function: each seed is a run."""
    rejax = pytest.importorskip("rejax")
    pytest.importorskip("gymnax")

    def program(jb):
        algorithm = rejax.get_algo("ppo").create(
            env="CartPole-v1", total_timesteps=2048, eval_freq=1024, num_envs=4, num_steps=32
        )

        def report(algorithm, train_state, key):
            jb.scalar("norm", optax.tree.norm(train_state.actor_ts.params))
            return ()

        algorithm = algorithm.replace(eval_callback=report)

        @jb.instrument(runs="vmap", stream=1)
        @jax.jit
        def train(keys):
            return jax.vmap(lambda key: algorithm.train(key)[1])(keys)

        return train(jax.random.split(jax.random.key(0), 2))

    records = records_of(program)
    seeds = {}
    for record in records:
        seeds.setdefault(record.run, []).append((record.step, float(record.value)))
    assert set(seeds) >= {"seed_0", "seed_1"}
    for run in ("seed_0", "seed_1"):
        steps = [step for step, _ in seeds[run]]
        assert steps == sorted(steps)  # the evaluation before the first iteration comes first
        assert steps[-1] == 1
    assert seeds["seed_0"] != seeds["seed_1"]
