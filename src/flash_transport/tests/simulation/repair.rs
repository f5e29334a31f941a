//! What forward error correction costs, and where it is off. What it is worth, the rows show.

use crate::arms::Arm;
use crate::paths::{PathSpec, MILLISECOND};
use crate::requests::Plan;
use crate::rows::{self, Row};
use crate::scenario::Robot;

fn run(path: &PathSpec, plan: &Plan) -> Robot {
    let mut robot = Robot::new(1, Arm::Ours, path, plan.clone());
    robot.run();
    robot
}

/// Bytes of the uplink, as a share of those on a path that loses nothing.
fn bytes(row: &Row) -> f64 {
    let clean = run(&PathSpec::clean(row.round_trip), &row.plan);
    let lossy = run(&row.path, &row.plan);
    lossy.uplink().bytes as f64 / clean.uplink().bytes as f64
}

#[test]
fn repair_and_retransmissions_take_two_and_a_half_times_the_loss_and_a_percent() {
    for (row, loss) in [
        (rows::independent_loss(), 0.02),
        (rows::burst_loss(), 0.02),
        (rows::long_lossy_path(), 0.01),
        (rows::heavy_loss(), 0.05),
    ] {
        let bytes = bytes(&row);
        println!("{:<40} {:.2} % more bytes", row.name, 100.0 * (bytes - 1.0));
        // The loss itself differs from seed to seed, and probes and acknowledgements come on top.
        assert!(bytes <= 1.0 + 2.5 * loss + 0.015, "{}: {bytes}", row.name);
    }
}

#[test]
fn a_path_that_loses_nothing_has_no_repair() {
    for row in [
        rows::local_network(),
        rows::slow_cadence(),
        rows::jitter_in_order(),
        rows::jitter_of_the_uplink(),
    ] {
        assert_eq!(run(&row.path, &row.plan).symbols(), 0, "{}", row.name);
    }
}

#[test]
fn a_full_queue_has_no_repair() {
    let narrow = rows::hundred_megabits();
    let robot = run(&narrow.path, &narrow.plan);
    assert!(robot.uplink().overflowed > 0);
    assert_eq!(robot.symbols(), 0);
}

#[test]
fn repair_begins_with_the_second_request_behind_the_first_loss() {
    let row = rows::independent_loss();
    let mut robot = Robot::new(1, Arm::Ours, &row.path, row.plan.clone());
    robot.run_until_answered(1);
    assert_eq!(robot.symbols(), 0);
    robot.run_until_answered(2);
    assert!(robot.symbols() > 0);
    assert!(robot.latencies()[1] <= 30 * MILLISECOND);
}
