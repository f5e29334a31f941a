//! Datagrams as large as the first link carries, on paths that carry them and on paths that do not.

use std::time::Duration;

use crate::arms::Arm;
use crate::link::Loss;
use crate::paths::{PathSpec, MILLISECOND};
use crate::report::{line, milliseconds, percentile};
use crate::requests::Plan;
use crate::scenario::{latencies, Robot, WARM_UP};

const ARM: Arm = Arm::WithJumboFrames;

fn robot(path: &PathSpec, requests: usize) -> Robot {
    Robot::new(1, ARM, path, Plan::new(500 * MILLISECOND, requests))
}

#[test]
fn jumbo_frames_carry_a_request_in_a_sixth_of_the_packets() {
    let path = PathSpec::clean(80 * MILLISECOND).with_jumbo_frames();
    let mut robot = robot(&path, 20);
    robot.run_until_answered(10);
    let before = robot.uplink();
    robot.run();
    let packets = (robot.uplink().packets - before.packets) / 10;
    // 452 KB in 8.9 KB each are 51; acknowledgements, probes and keep-alives are the others.
    assert!(packets <= 65, "{packets} packets for a request");
    for latency in &robot.latencies()[WARM_UP..] {
        assert!(*latency <= 88 * MILLISECOND, "{latency:?}");
    }
}

#[test]
fn a_switch_that_drops_jumbo_frames_costs_their_probes_and_no_time() {
    let path = PathSpec::clean(80 * MILLISECOND);
    let mut robot = robot(&path, 100);
    robot.run();
    let dropped = robot.uplink().too_large;
    println!("frames of 9000 bytes on a path for 1500: {dropped} probes dropped");
    // The search halves what is between an ordinary and a jumbo frame, and asks three times for each size.
    assert!((3..=30).contains(&dropped), "{dropped} probes were dropped");
    for latency in &robot.latencies()[WARM_UP..] {
        assert!(*latency <= 88 * MILLISECOND, "{latency:?}");
    }
}

#[test]
fn a_lossy_path_that_drops_jumbo_frames_is_as_fast_as_without_them() {
    let path = PathSpec::clean(20 * MILLISECOND).with_loss(Loss::Independent { probability: 0.02 });
    let plan = Plan::new(500 * MILLISECOND, 200);
    let latencies = latencies(ARM, &path, &plan, 4);
    let limits = (44.0, 65.0);
    line(
        "RTT 20 ms, 2 % loss, jumbo frames dropped",
        &latencies,
        Some(limits),
    );
    let p50 = milliseconds(percentile(&latencies, 0.5));
    let p95 = milliseconds(percentile(&latencies, 0.95));
    assert!(
        p50 <= limits.0 && p95 <= limits.1,
        "p50 {p50:.1}, p95 {p95:.1} ms"
    );
}

#[test]
fn a_path_that_carries_less_from_now_on_is_noticed_by_the_request_that_it_meets() {
    let path = PathSpec::clean(20 * MILLISECOND);
    let mut robot = robot(&path.clone().with_jumbo_frames(), 20);
    robot.run_until_answered(10);
    robot.network.change_link(robot.up, path.up);
    robot.run();
    let latencies = robot.latencies();
    println!(
        "frames of 9000, then of 1500 bytes: {:?}",
        &latencies[8..14]
    );
    assert!(
        latencies[10] <= Duration::from_secs(1),
        "{:?}",
        latencies[10]
    );
    for latency in &latencies[11..] {
        assert!(*latency <= 28 * MILLISECOND, "{latencies:?}");
    }
}
