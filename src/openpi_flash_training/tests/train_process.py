"""A training run in a process of its own, which may end as if the power had failed.

    python train_process.py SETTINGS [--quick] [--resume] [--kill-after STEP] [--part I/N@HOST:PORT]

Prints the number of devices, and how many leaves of the state are spread over them: small ones
too, which a run keeps whole. ``--quick``: a loss that compiles in a moment. ``--kill-after``:
SIGKILL after that step, as soon as there is a whole checkpoint.
"""

import argparse
import functools
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("settings", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--kill-after", type=int)
    parser.add_argument("--part")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()

    import jax

    if given.part:
        part, _, coordinator = given.part.partition("@")
        number, _, count = part.partition("/")
        jax.distributed.initialize(coordinator, int(count), int(number))

    from train_runs import Silent, quick_loss

    from openpi_flash_training.train import plan
    from openpi_flash_training.train.checkpoints import newest_whole
    from openpi_flash_training.train.mesh import FSDP, state_shardings
    from openpi_flash_training.train.run import train
    from openpi_flash_training.train.settings_file import read_settings

    if given.quick:
        plan.loss = quick_loss
    # a test's model has no leaf that is worth spreading
    plan.state_shardings = functools.partial(state_shardings, least_bytes=0)

    class Fragile(Silent):
        def started(self, first, plan):
            places = jax.tree.leaves(plan.shardings)
            sys.stdout.write(f"spread {sum(FSDP in place.spec for place in places)}\n")

        def stepped(self, step):
            at = given.kill_after
            if at is not None and step >= at and newest_whole(run) is not None:
                os.kill(os.getpid(), signal.SIGKILL)

    settings = read_settings(given.settings)
    run = Path(settings.run.output)
    sys.stdout.write(f"devices {jax.device_count()}\n")
    outcome = train(settings, Fragile(), resume=given.resume)
    sys.stdout.write(f"finished {outcome.finished}\n")


if __name__ == "__main__":
    main()
