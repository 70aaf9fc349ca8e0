"""Solvers, samplers and simulators, each driving the loop that reports."""

# pyright: reportMissingImports=false

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


def test_diffrax_steps(points_of):
    """In a streamed solve, each step of the solver is a point: those accepted lead through the times of the solution."""
    diffrax = pytest.importorskip("diffrax")
    found = []

    def program(jb):
        class Reported(diffrax.PIDController):
            def adapt_step_size(self, t0, t1, *args, **options):
                result = super().adapt_step_size(t0, t1, *args, **options)
                jb.scalar("size", t1 - t0)
                jb.scalar("accepted", result[0])
                return result

        def field(t, y, stiffness):
            return jnp.array([y[1], stiffness * (1 - y[0] ** 2) * y[1] - y[0]])

        @jb.instrument(stream=16)
        @jax.jit
        def solve(stiffness):
            return diffrax.diffeqsolve(
                diffrax.ODETerm(field),
                diffrax.Tsit5(),
                t0=0,
                t1=10.0,
                dt0=0.1,
                y0=jnp.array([2.0, 0.0]),
                args=stiffness,
                saveat=diffrax.SaveAt(steps=True),
                stepsize_controller=Reported(rtol=1e-4, atol=1e-6),
                max_steps=256,
            )

        solution = solve(5.0)
        found.append(solution)
        return solution.ts, solution.ys, solution.stats

    points = points_of(program)
    stats = found[-1].stats
    assert [step for step, _ in points["size"]] == list(range(int(stats["num_steps"])))
    accepted = np.array([value for _, value in points["accepted"]], bool)
    assert accepted.sum() == stats["num_accepted_steps"]
    assert (~accepted).sum() == stats["num_rejected_steps"] > 0
    sizes = np.array([value for _, value in points["size"]], np.float32)[accepted]
    times = np.asarray(found[-1].ts)
    np.testing.assert_array_equal(sizes, np.diff(times[np.isfinite(times)], prepend=np.float32(0)))


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


def gaussian():
    """Return a model of NumPyro and data for it."""
    numpyro = pytest.importorskip("numpyro")
    from numpyro import distributions

    def model(data):
        mean = numpyro.sample("mean", distributions.Normal(0, 10))
        numpyro.sample("data", distributions.Normal(mean, 1), obs=data)

    return model, jnp.asarray(np.random.default_rng(0).normal(3, 1, 100), jnp.float32)


@pytest.mark.parametrize("progress_bar", [False, True])
def test_numpyro_svi_run(points_of, progress_bar):
    """In ``svi.run``, which owns the loop, the loss reports each iteration: the losses that it returns."""
    model, data = gaussian()
    import numpyro
    from numpyro.infer import SVI, Trace_ELBO
    from numpyro.infer.autoguide import AutoNormal

    losses = []

    def program(jb):
        @jb.instrument
        @jax.jit
        def log(loss):
            jb.scalar("loss", loss)

        class ReportedELBO(Trace_ELBO):
            def loss_with_mutable_state(self, *args, **options):
                result = super().loss_with_mutable_state(*args, **options)
                log(result["loss"])
                return result

        svi = SVI(model, AutoNormal(model), numpyro.optim.Adam(0.1), ReportedELBO())
        result = svi.run(jax.random.key(0), 20, data, progress_bar=progress_bar)
        losses.append(result.losses)
        return result.params, result.losses

    points = points_of(program)["loss"]
    assert [step for step, _ in points] == list(range(20))
    np.testing.assert_array_equal([value for _, value in points], losses[-1])


def test_numpyro_chains(records_of):
    """In ``mcmc.run``, the kernel reports each draw of each chain, as a seed run: the fields that it collects."""
    model, data = gaussian()
    from numpyro.infer import MCMC, NUTS

    energies = []

    def program(jb):
        @jb.instrument(runs="vmap")
        @jax.jit
        def log(energies):
            jax.vmap(lambda energy: jb.scalar("energy", energy))(energies)

        class ReportedNUTS(NUTS):
            def sample(self, state, model_args, model_kwargs):
                state = super().sample(state, model_args, model_kwargs)
                log(state.energy)
                return state

        mcmc = MCMC(
            ReportedNUTS(model),
            num_warmup=10,
            num_samples=15,
            num_chains=2,
            chain_method="vectorized",
            progress_bar=False,
        )
        mcmc.run(jax.random.key(1), data, extra_fields=("energy",))
        energies.append(mcmc.get_extra_fields(group_by_chain=True)["energy"])
        return mcmc.get_samples(group_by_chain=True)

    records = records_of(program)
    for chain in range(2):
        points = [(r.step, r.value) for r in records if r.run == f"seed_{chain}"]
        assert [step for step, _ in points] == list(range(25))  # The warm-up, then the samples.
        np.testing.assert_array_equal([value for _, value in points[10:]], energies[-1][chain])


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


def test_blackjax_chains(records_of):
    """Chains in a ``vmap`` are seed runs, whose points are what the sampler returns."""
    blackjax = pytest.importorskip("blackjax")
    returned = []

    def program(jb):
        sampler = blackjax.nuts(
            lambda x: -0.5 * jnp.sum(x**2), step_size=0.5, inverse_mass_matrix=jnp.ones(2)
        )

        @jb.instrument(runs="vmap", stream=8)
        @jax.jit
        def sample(keys, positions):
            def draw(state, key):
                state, info = sampler.step(key, state)
                jb.scalar("acceptance", info.acceptance_rate)
                return state, info.acceptance_rate

            def chain(key, position):
                return jax.lax.scan(draw, sampler.init(position), jax.random.split(key, 20))

            return jax.vmap(chain)(keys, positions)

        result = sample(jax.random.split(jax.random.key(0), 3), jnp.ones((3, 2)))
        returned.append(result[1])
        return result

    records = records_of(program)
    for chain in range(3):
        points = [(r.step, r.value) for r in records if r.run == f"seed_{chain}"]
        assert [step for step, _ in points] == list(range(20))
        np.testing.assert_array_equal([value for _, value in points], returned[-1][chain])


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
