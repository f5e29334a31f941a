//! Percentiles, and the lines that `--nocapture` shows.

use std::time::Duration;

/// The least latency that `share` of all do not exceed.
pub fn percentile(latencies: &[Duration], share: f64) -> Duration {
    let mut sorted = latencies.to_vec();
    sorted.sort();
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Round trips that the median request waited for, without the time that its bytes take.
pub fn flights(latencies: &[Duration], round_trip: Duration) -> u32 {
    (percentile(latencies, 0.5).as_secs_f64() / round_trip.as_secs_f64()) as u32
}

/// One row: the median and the 95th percentile, with what they must not exceed.
pub fn line(row: &str, latencies: &[Duration], limits: Option<(f64, f64)>) {
    let p50 = milliseconds(percentile(latencies, 0.5));
    let p95 = milliseconds(percentile(latencies, 0.95));
    let limits = limits.map_or(String::new(), |(p50, p95)| {
        format!("   (at most {p50:5.1} / {p95:5.1})")
    });
    println!("{row:<56} p50 / p95  {p50:7.1} / {p95:7.1} ms{limits}");
}

#[test]
fn a_percentile_is_one_of_the_latencies() {
    let latencies: Vec<_> = (1..=20).map(Duration::from_millis).collect();
    assert_eq!(percentile(&latencies, 0.5), Duration::from_millis(10));
    assert_eq!(percentile(&latencies, 0.95), Duration::from_millis(19));
    assert_eq!(percentile(&latencies[..1], 0.95), Duration::from_millis(1));
}
