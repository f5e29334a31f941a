//! The simulation itself: a seed is all there is to a run.

use std::time::Duration;

use crate::arms::Arm;
use crate::link::{Jitter, Loss};
use crate::paths::{PathSpec, MILLISECOND};
use crate::requests::Plan;
use crate::scenario::Robot;

fn run(seed: u64) -> (Vec<Duration>, u64) {
    let path = PathSpec::clean(20 * MILLISECOND)
        .with_loss(Loss::bursts(0.02, 5.0))
        .with_jitter(Jitter::Reordering {
            amount: MILLISECOND,
        });
    let mut robot = Robot::new(seed, Arm::Ours, &path, Plan::new(100 * MILLISECOND, 10));
    robot.run();
    (robot.latencies(), robot.uplink().bytes)
}

#[test]
fn the_same_seed_gives_the_same_nanoseconds() {
    assert_eq!(run(1), run(1));
}

#[test]
fn another_seed_gives_others() {
    assert_ne!(run(1), run(2));
}
