"""The time until the programs of an instrumented step are compiled, compared with the step without reports.

Each measurement is a process of its own, so that no cache is warm. The variants take turns, so that other load on the
machine affects all of them. The clock runs during the calls only: imports, parameters and the opening of the run are
not counted. The tables show medians over the rounds, and the medians of the ratios to the bare step of the same round.
With --cpu, the seconds are those of all processors together, which other load affects less.

The rows "by hand" are steps without jaxboard that return the same values as additional outputs: what their computation
takes, however they leave the program. The histograms of "watch by hand" are the simplest, with a scatter for each leaf.

    python benchmarks/compile_time.py --rounds 5
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from environment import environment

import jaxboard as jb

BY_HAND = " by hand"
"""The end of the names of variants that return the same values by hand, at every step."""

LAYERS, WIDTH, HEADS, LENGTH, VOCABULARY = 12, 256, 4, 64, 512

Step = Callable[..., Any]


# --- A transformer: its layers have 72 leaves of five shapes.


def new_params() -> dict[str, dict[str, jax.Array]]:
    """Return the parameters of the transformer."""
    shapes = {
        "qkv": (WIDTH, 3 * WIDTH),
        "out": (WIDTH, WIDTH),
        "up": (WIDTH, 4 * WIDTH),
        "down": (4 * WIDTH, WIDTH),
        "norm_1": (WIDTH,),
        "norm_2": (WIDTH,),
    }

    def layer() -> dict[str, jax.Array]:
        return {
            name: jnp.full(shape, 1e-2 if len(shape) > 1 else 1.0, jnp.float32)
            for name, shape in shapes.items()
        }

    embedding = jnp.full((VOCABULARY, WIDTH), 1e-2, jnp.float32)
    return {f"layer_{n}": layer() for n in range(LAYERS)} | {"tokens": {"embedding": embedding}}


def loss_of(
    params: dict[str, dict[str, jax.Array]],
    tokens: jax.Array,
    report: Callable[[str, jax.Array], object] | None,
) -> jax.Array:
    """Return the loss of the transformer, and report it and 24 other scalars."""
    x = params["tokens"]["embedding"][tokens]
    causal = jnp.tril(jnp.ones((LENGTH, LENGTH), bool))
    for n in range(LAYERS):
        layer = params[f"layer_{n}"]
        heads = _normalized(x, layer["norm_1"]) @ layer["qkv"]
        q, k, v = jnp.split(heads.reshape(*x.shape[:2], HEADS, -1), 3, axis=-1)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
        weights = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf))
        attended = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape)
        x = x + attended @ layer["out"]
        x = x + jax.nn.gelu(_normalized(x, layer["norm_2"]) @ layer["up"]) @ layer["down"]
        if report is not None:
            report(f"layer_{n}/attention", jnp.abs(attended).mean())
            report(f"layer_{n}/output", jnp.abs(x).mean())
    logits = x[:, :-1] @ params["tokens"]["embedding"].T
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, 1:, None], -1)
    if report is not None:
        report("loss", losses.mean())
    return losses.mean()


def loss_and_scalars(params: Any, tokens: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
    """Return the loss, and by hand what :func:`loss_of` reports."""
    scalars: dict[str, Any] = {}
    return loss_of(params, tokens, scalars.__setitem__), scalars


def measured_by_hand(x: jax.Array) -> tuple[jax.Array, ...]:
    """Return the statistics that ``watch`` reports of one leaf, in the simplest way."""
    low, high = x.min(), x.max()
    buckets = ((x - low) / (high - low) * 64).astype(jnp.int32).clip(0, 63)
    counts = jnp.zeros(64, jnp.int32).at[buckets].add(1)
    return (x * x).sum(), jnp.abs(x).max(), (~jnp.isfinite(x)).sum(), counts, low, high


def _normalized(x: jax.Array, scale: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6) * scale


def transformer(variant: str) -> tuple[Step, tuple[Any, ...]]:
    """Return a step of the transformer, which maps its state to the next one, and the state."""
    by_hand = variant.endswith(BY_HAND)

    def step(params: Any, momentum: Any, tokens: jax.Array) -> tuple[Any, ...]:
        returned: dict[str, Any] = {}
        if by_hand:
            grads, returned = jax.grad(loss_and_scalars, has_aux=True)(params, tokens)
        else:
            grads = jax.grad(loss_of)(params, tokens, None if variant == "bare" else jb.scalar)
        if variant.startswith("watch"):
            layers = {name: layer for name, layer in grads.items() if name != "tokens"}
            if by_hand:
                returned["gradients"] = jax.tree.map(measured_by_hand, layers)
            else:
                jb.watch("gradients", layers, every=100)
        momentum = jax.tree.map(lambda m, g: 0.9 * m + g, momentum, grads)
        params = jax.tree.map(lambda p, m: p - 1e-3 * m, params, momentum)
        return params, momentum, tokens, *([returned] if by_hand else [])

    params = new_params()
    tokens = jnp.arange(4 * LENGTH, dtype=jnp.int32).reshape(4, LENGTH) % VOCABULARY
    jitted = jax.jit(step, donate_argnums=(0, 1))
    return jitted, (params, jax.tree.map(jnp.zeros_like, params), tokens)


# --- A convolutional network with reports of three cadences.


def network(variant: str) -> tuple[Step, tuple[Any, ...]]:
    """Return a step of the network, which changes its state in place, and the state."""
    import optax
    from flax import nnx

    class Network(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.conv_1 = nnx.Conv(1, 32, (3, 3), rngs=rngs)
            self.conv_2 = nnx.Conv(32, 64, (3, 3), rngs=rngs)
            self.dense = nnx.Linear(3136, 256, rngs=rngs)
            self.logits = nnx.Linear(256, 10, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            for conv in (self.conv_1, self.conv_2):
                x = nnx.avg_pool(nnx.relu(conv(x)), (2, 2), strides=(2, 2))
            return self.logits(nnx.relu(self.dense(x.reshape(len(x), -1))))

    def step(model: Network, optimizer: nnx.Optimizer, images: jax.Array, labels: jax.Array):
        def loss_fn(model: Network) -> jax.Array:
            logits = model(images)
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
            if variant != "bare":
                jb.scalar("loss", loss)
                jb.histogram("logits", logits, every=10)
                jb.image("input", images[:1], every=25)
            return loss

        grads = nnx.grad(loss_fn)(model)
        if variant != "bare":
            jb.watch("gradients", grads, every=10)
        optimizer.update(model, grads)

    model = Network(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
    return nnx.jit(step), (model, optimizer, jnp.ones((32, 28, 28, 1)), jnp.zeros(32, jnp.int32))


# --- Measurement.

MODELS = {
    "transformer": (
        transformer,
        ("bare", f"scalars{BY_HAND}", "scalars", f"watch{BY_HAND}", "watch"),
        range(2),
    ),
    "network": (network, ("bare", "reports", 'gate="cond"'), (0, 1, 10, 25)),
}
"""Each model with its variants, the first without reports, and the steps that are measured."""


def seconds_of_steps(model: str, variant: str, clock: Callable[[], float]) -> list[float]:
    """Return the seconds of the measured steps, in this process. Steps between them are skipped."""
    make, _, steps = MODELS[model]
    step, state = make(variant)
    if variant != "bare" and not variant.endswith(BY_HAND):
        gate = "cond" if variant.startswith("gate") else "compile"
        step = jb.instrument(step, gate=gate)
    jax.block_until_ready(jax.tree.leaves(state))
    seconds = []
    with tempfile.TemporaryDirectory() as folder, jb.Run(folder) as run:
        jb.scalar("ready", 0.0)
        run.flush()  # after the import of TensorFlow
        for number in steps:
            run.step = number
            began = clock()
            results = step(*state)
            jax.block_until_ready(jax.tree.leaves(state if results is None else results))
            seconds.append(clock() - began)
            state = state if results is None else results[: len(state)]
    return seconds


def measure(model: str, variant: str, *, cpu: bool) -> list[float]:
    """Return the seconds of the measured steps, in a new process."""
    command = [sys.executable, __file__, "--measure", model, variant, *(["--cpu"] if cpu else [])]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [float(word) for word in out.split()]


def table(model: str, rounds: int, *, cpu: bool) -> str:
    """Measure a model and return the table of its variants."""
    _, variants, steps = MODELS[model]
    measured: dict[str, list[list[float]]] = {variant: [] for variant in variants}
    for n in range(rounds):
        for variant in sorted(variants, reverse=bool(n % 2)):
            measured[variant].append(measure(model, variant, cpu=cpu))
    header = [f"step {n}, s" for n in steps]
    lines = [
        f"| {model} | {' | '.join(header)} | first to bare | all to bare |",
        f"| --- | {' | '.join(['---:'] * len(header))} | ---: | ---: |",
    ]
    for variant in variants:
        columns = zip(*measured[variant], strict=True)
        seconds = [f"{statistics.median(column):.2f}" for column in columns]
        pairs = list(zip(measured[variant], measured[variants[0]], strict=True))
        first = statistics.median(own[0] / bare[0] for own, bare in pairs)
        total = statistics.median(sum(own) / sum(bare) for own, bare in pairs)
        lines.append(f"| {variant} | {' | '.join(seconds)} | {first:.2f} | {total:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the time to compile a step.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--measure", nargs=2, metavar=("MODEL", "VARIANT"), help=argparse.SUPPRESS)
    parser.add_argument("--cpu", action="store_true", help="count the seconds of all processors")
    options = parser.parse_args()
    if options.measure:
        clock = time.process_time if options.cpu else time.perf_counter
        model, variant = options.measure
        print(*seconds_of_steps(model, variant, clock))
        return
    print(f"{environment()}; {options.rounds} rounds")
    for model in options.models:
        print(f"\n{table(model, options.rounds, cpu=options.cpu)}", flush=True)


if __name__ == "__main__":
    main()
