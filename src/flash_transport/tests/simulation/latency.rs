//! How long a request takes, on each kind of path.

use std::time::Duration;

use crate::arms::Arm;
use crate::link::{LinkSpec, Loss};
use crate::paths::{PathSpec, MILLISECOND};
use crate::report::{flights, line, milliseconds, percentile};
use crate::requests::Plan;
use crate::rows::{self, Row};
use crate::scenario::{first_answers, latencies, Robot, WARM_UP};

fn hold(row: &Row) -> Vec<Duration> {
    let latencies = latencies(Arm::Ours, &row.path, &row.plan, row.seeds);
    line(row.name, &latencies, Some(row.limits));
    let p50 = milliseconds(percentile(&latencies, 0.5));
    let p95 = milliseconds(percentile(&latencies, 0.95));
    assert!(p50 <= row.limits.0, "{}: p50 {p50:.1} ms", row.name);
    assert!(p95 <= row.limits.1, "{}: p95 {p95:.1} ms", row.name);
    latencies
}

#[test]
fn a_request_on_a_local_network_takes_its_serialisation() {
    hold(&rows::local_network());
}

#[test]
fn a_request_after_a_pause_takes_one_flight() {
    let row = rows::slow_cadence();
    let latencies = hold(&row);
    assert_eq!(flights(&latencies, row.round_trip), 1);
}

#[test]
fn a_client_that_asks_nothing_for_five_minutes_keeps_its_connection() {
    let row = rows::slow_cadence();
    let plan = Plan::new(Duration::from_secs(300), 3);
    // a lost connection ends the run
    let mut robot = Robot::new(1, Arm::Ours, &row.path, plan);
    robot.run();
    assert!(robot
        .latencies()
        .iter()
        .all(|latency| *latency < Duration::from_secs(1)));
}

#[test]
fn a_request_that_loses_packets_takes_one_flight() {
    for row in [rows::independent_loss(), rows::heavy_loss()] {
        let latencies = hold(&row);
        assert_eq!(flights(&latencies, row.round_trip), 1);
    }
}

#[test]
fn bursts_of_loss_cost_no_more_than_single_ones() {
    hold(&rows::burst_loss());
}

#[test]
fn a_fade_costs_the_request_that_it_meets_and_no_other() {
    let row = rows::fades();
    let latencies = hold(&row);
    assert_eq!(flights(&latencies, row.round_trip), 1);
}

#[test]
fn loss_on_a_long_path_costs_no_round_trip() {
    hold(&rows::long_lossy_path());
}

#[test]
fn jitter_costs_no_more_than_itself() {
    hold(&rows::jitter_in_order());
    hold(&rows::jitter_of_the_uplink());
}

#[test]
fn packets_that_overtake_each_other_cost_no_second_flight() {
    for row in [
        rows::jitter_that_reorders(),
        rows::jitter_that_reorders_back_to_back(),
    ] {
        let latencies = hold(&row);
        assert_eq!(flights(&latencies, row.round_trip), 1);
    }
}

#[test]
fn jitter_and_loss_together_cost_no_more_than_a_round_trip() {
    hold(&rows::jitter_and_loss());
    hold(&rows::radio());
}

#[test]
fn bursts_of_loss_on_a_path_shorter_than_a_request_never_collapse() {
    let latencies = hold(&rows::wifi());
    let slowest = percentile(&latencies, 1.0);
    // A long burst takes many probes; a window that collapsed would make a hundred requests slow.
    assert!(slowest <= Duration::from_millis(1_500), "{slowest:?}");
    let slow = latencies.iter().filter(|time| **time > 80 * MILLISECOND);
    assert!(slow.count() <= latencies.len() / 50);
}

#[test]
fn a_mobile_network_costs_its_serialisation() {
    hold(&rows::lte());
    hold(&rows::lte_at_rest());
}

#[test]
fn a_narrow_path_costs_its_serialisation() {
    hold(&rows::hundred_megabits());
}

#[test]
fn the_first_request_leaves_with_the_handshakes_end_and_a_known_servers_hello_before_it() {
    let (first, resumed) = first_answers(Arm::Ours, &PathSpec::clean(80 * MILLISECOND));
    println!("RTT 80 ms, first connection {first:?}, resumed {resumed:?}");
    assert!(first.hello <= 165 * MILLISECOND, "{first:?}");
    assert!(first.request <= 175 * MILLISECOND, "{first:?}");
    assert!(resumed.hello <= 95 * MILLISECOND, "{resumed:?}");
    assert!(resumed.request <= 175 * MILLISECOND, "{resumed:?}");
}

#[test]
fn a_request_after_half_a_minute_of_silence_takes_one_flight() {
    let plan = Plan::new(Duration::from_secs(30), WARM_UP + 3);
    let path = PathSpec::clean(80 * MILLISECOND);
    for latency in latencies(Arm::Ours, &path, &plan, 1) {
        assert!(latency <= 85 * MILLISECOND, "{latency:?}");
    }
}

#[test]
fn three_raw_images_of_640x480_wait_for_no_credit() {
    let plan = Plan {
        request_bytes: 2_764_800,
        ..Plan::new(Duration::from_secs(1), WARM_UP + 3)
    };
    // 23 ms on the wire.
    for latency in latencies(Arm::Ours, &PathSpec::clean(80 * MILLISECOND), &plan, 1) {
        assert!(latency <= 110 * MILLISECOND, "{latency:?}");
    }
}

#[test]
fn an_outage_of_a_second_is_forgotten_after_two_requests() {
    let path = PathSpec::clean(20 * MILLISECOND);
    let mut robot = Robot::new(1, Arm::Ours, &path, Plan::new(500 * MILLISECOND, 20));
    robot.run_until_answered(10);
    let silent = LinkSpec {
        loss: Loss::Independent { probability: 1.0 },
        ..path.up.clone()
    };
    robot.network.change_link(robot.up, silent);
    robot.network.run_for(Duration::from_secs(1));
    robot.network.change_link(robot.up, path.up);
    robot.run();
    let latencies = robot.latencies();
    println!(
        "an outage of 1 s: {:?}",
        latencies[9..14]
            .iter()
            .map(|latency| milliseconds(*latency))
            .collect::<Vec<_>>()
    );
    for latency in &latencies[13..] {
        assert!(*latency <= 28 * MILLISECOND, "{latencies:?}");
    }
}

#[test]
fn a_clean_path_carries_nothing_but_the_request() {
    let path = PathSpec::clean(20 * MILLISECOND);
    let plan = Plan::new(500 * MILLISECOND, 50);
    let mut robot = Robot::new(1, Arm::Ours, &path, plan.clone());
    robot.run();
    // Acknowledgements, keep-alives, MTU discovery, and 4.5 % of headers.
    let per_request = robot.uplink().bytes / plan.requests as u64;
    assert!(per_request < 480_000, "{per_request} bytes");
}
