"""The program: it runs the trials, and prints what to look at."""

from __future__ import annotations

import os
import shlex
import time

from tqdm import tqdm

import jaxboard as jb
from jaxboard import _paths
from jaxboard._cli.demo import digits, reported_once
from jaxboard._cli.demo.trial import BATCH_SIZE, SEED, Hyperparameters, train

SHOWN = Hyperparameters(hidden=100, learning_rate=3e-3)
"""The trial that is shown in detail."""

COMPARED = {
    "tiny": Hyperparameters(hidden=10, learning_rate=3e-3),
    "slow": Hyperparameters(hidden=100, learning_rate=3e-4),
}
"""The trials that are compared with it."""

CURVES_ONLY = {"*": None, "loss": 1, "accuracy": 1, "final/*": 1}
"""The reports of these: the compiled steps have no others."""

PROFILED_STEPS = 5

HINTS = """\
The tabs of TensorBoard, and something to look at in each:

  Time Series     accuracy, loss: training and evaluation of each trial in one chart
  Scalars         gradients/, health/; jaxboard/: step times, compile times, where the time went
  Custom Scalars  the gradients of all layers in one chart
  Images          hardest: test images, wrong ones with a box and the prediction; confusion; health/layers
  Graphs          the operations of the network
  Histograms      logits, and the gradient of each parameter
  Text            about; profile/verdict: what limits the step
  PR Curves       precision over recall of each digit
  HParams         the trials by their final accuracy
  Projector       the test images as the network sees them; color by "digit"
  Profile         the time line of {profiled} training steps (this tab needs xprof)
"""


def main(logdir: str, steps: int) -> None:
    """Run the trials, each for ``steps`` steps, in a new directory under ``logdir``."""
    training, test = digits.load(SEED)
    path = os.path.join(logdir, time.strftime("%H%M%S"))
    middle = steps // 2
    profiled = range(middle, min(middle + PROFILED_STEPS, steps))
    telemetry = jb.Telemetry(per_call={"train_step": {"images": BATCH_SIZE}})

    started = time.time()
    print("Training three networks. The first step of each takes some seconds, as JAX compiles it.")
    with tqdm(total=steps * (1 + len(COMPARED)), desc="wide", unit="step") as progress:
        with (
            jb.Run(os.path.join(path, "wide"), telemetry=telemetry) as run,
            jb.profile(profiled),
        ):
            model = train(run, SHOWN, steps, training, test, progress=progress)
            reported_once.report(model, test)
        for name, hyperparameters in COMPARED.items():
            progress.set_description(name)
            with jb.Run(os.path.join(path, name), select=CURVES_ONLY) as run:
                train(run, hyperparameters, steps, training, test, progress=progress)

    print(f"Trained for {time.time() - started:.0f} s. The runs are in {path}.\n")
    print(HINTS.format(profiled=len(profiled)))
    print(f"See where the time went:\n\n  {_paths.python()} -m jaxboard why {shlex.quote(path)}")
    print(f"\nView it:\n\n  {_paths.python()} -m tensorboard.main --logdir {shlex.quote(logdir)}\n")
