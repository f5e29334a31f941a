//! What a client knows of its path, by which it chooses how images travel.

use std::time::Duration;

use crate::arms::Arm;
use crate::paths::{PathSpec, MILLISECOND};
use crate::report::{line, percentile};
use crate::requests::{Plan, REQUEST_BYTES};
use crate::rows::{self, Row};
use crate::scenario::{Robot, WARM_UP};

/// Three images of 224x224 as JPEG 92, and the state.
const JPEG_BYTES: usize = 45_000;

/// Megabits per second after each request of so many bytes but the first ones.
fn megabits(arm: Arm, path: &PathSpec, request_bytes: usize, every: Duration) -> Vec<f64> {
    let plan = Plan {
        request_bytes,
        ..Plan::new(every, 40)
    };
    let mut robot = Robot::new(1, arm, path, plan);
    robot.run();
    let estimates = robot.estimates();
    let rates = estimates[WARM_UP..].iter();
    rates
        .map(|estimate| estimate.bits_per_second.expect("a rate") / 1e6)
        .collect()
}

fn hold(row: &Row, least: f64, most: f64) {
    for request_bytes in [REQUEST_BYTES, JPEG_BYTES] {
        let rates = megabits(Arm::Ours, &row.path, request_bytes, row.plan.every);
        let (lowest, highest) = rates.iter().fold((f64::MAX, 0.0_f64), |(low, high), rate| {
            (low.min(*rate), high.max(*rate))
        });
        println!(
            "{}, {request_bytes} bytes: {lowest:.0} to {highest:.0} Mb/s",
            row.name
        );
        assert!(
            least <= lowest && highest <= most,
            "{}: {rates:?}",
            row.name
        );
    }
}

#[test]
fn the_rate_of_a_mobile_network_is_known_from_raw_images_and_from_jpegs() {
    hold(&rows::lte(), 15.0, 22.0);
}

#[test]
fn jpegs_over_a_mobile_network_take_their_serialisation_from_the_first_on() {
    let row = rows::lte();
    let plan = Plan {
        request_bytes: JPEG_BYTES,
        ..Plan::new(500 * MILLISECOND, 200)
    };
    let mut robot = Robot::new(1, Arm::Ours, &row.path, plan);
    robot.run();
    let times = robot.latencies();
    line("LTE, three JPEGs of quality 92", &times, None);
    // 78.6 ms without loss.
    assert!(percentile(&times, 0.5) <= 85 * MILLISECOND);
    assert!(percentile(&times, 0.95) <= 160 * MILLISECOND);
}

#[test]
fn a_gigabit_is_known_to_carry_raw_images() {
    // 452 KB within 20 ms are 181 Mb/s.
    hold(&rows::local_network(), 500.0, 1_100.0);
    hold(&rows::slow_cadence(), 300.0, 1_100.0);
}

#[test]
fn loss_hides_no_rate() {
    hold(&rows::independent_loss(), 150.0, 1_100.0);
}

#[test]
fn a_dedicated_link_is_measured_too() {
    let path = PathSpec::clean(20 * MILLISECOND).with_rate(100_000_000, 10.0);
    for rate in megabits(Arm::Dedicated, &path, REQUEST_BYTES, 500 * MILLISECOND) {
        assert!((80.0..105.0).contains(&rate), "{rate}");
    }
}
