use super::*;
use proptest::prelude::*;

const PEER: ([u8; 4], u16) = ([203, 0, 113, 7], 9);
const ROUND_TRIP: Duration = Duration::from_millis(40);

/// A path to a peer that answers while `opens` says so, in virtual time.
struct Bench {
    path: Path,
    start: Instant,
    now: Instant,
    opens: bool,
    answers: VecDeque<(Instant, u64)>,
    probes: usize,
}

impl Bench {
    fn new(opens: bool) -> Self {
        let start = Instant::now();
        let mut path = Path::new(u64::MAX);
        path.learn(start, PEER.into());
        Self {
            path,
            start,
            now: start,
            opens,
            answers: VecDeque::new(),
            probes: 0,
        }
    }

    /// Pass this time; the share of it that was direct.
    fn pass(&mut self, seconds: f64) -> f64 {
        let steps = (seconds * 100.0) as u32;
        let mut direct = 0;
        for _ in 0..steps {
            self.now += Duration::from_millis(10);
            while self.answers.front().is_some_and(|(at, _)| *at <= self.now) {
                if let Some((_, nonce)) = self.answers.pop_front() {
                    self.path.reached(self.now, nonce);
                }
            }
            for (_, nonce) in self.path.poll(self.now) {
                self.probes += 1;
                if self.opens {
                    self.answers.push_back((self.now + ROUND_TRIP, nonce));
                }
            }
            direct += u32::from(self.path.direct(self.now).is_some());
        }
        f64::from(direct) / f64::from(steps)
    }
}

#[test]
fn an_address_that_answers_is_used_after_a_round_trip() {
    let mut bench = Bench::new(true);
    assert_eq!(bench.path.direct(bench.start), None);
    bench.pass(0.06);
    assert_eq!(bench.path.direct(bench.now), Some(PEER.into()));
    assert_eq!(bench.pass(100.0), 1.0);
}

#[test]
fn without_an_answer_everything_goes_through_the_relay_and_probes_become_rare() {
    let mut bench = Bench::new(false);
    assert_eq!(bench.pass(3.0), 0.0);
    assert!(bench.probes >= 20);
    bench.pass(57.0);
    let before = bench.probes;
    assert_eq!(bench.pass(64.0), 0.0);
    assert_eq!(bench.probes - before, 4);
}

#[test]
fn an_address_that_falls_silent_is_given_up_within_a_second_and_a_half() {
    let mut bench = Bench::new(true);
    bench.pass(5.0);
    bench.opens = false;
    bench.pass(1.5);
    assert_eq!(bench.path.direct(bench.now), None);
}

#[test]
fn an_address_that_works_again_is_used_again_later_each_time() {
    let mut bench = Bench::new(true);
    bench.pass(5.0);
    let mut waits = Vec::new();
    for _ in 0..4 {
        bench.opens = false;
        bench.pass(1.6);
        bench.opens = true;
        let opened = bench.now;
        while bench.path.direct(bench.now).is_none() {
            bench.pass(0.01);
        }
        waits.push(bench.now.saturating_duration_since(opened).as_secs_f64());
        bench.pass(1.0);
    }
    for (wait, hold) in waits.iter().zip([1.0, 2.0, 4.0, 8.0]) {
        assert!((hold..hold + 0.5).contains(wait), "{waits:?}");
    }
    // A minute without trouble makes up for it.
    bench.pass(61.0);
    bench.opens = false;
    bench.pass(1.6);
    bench.opens = true;
    assert!(bench.pass(2.0) > 0.2);
}

#[test]
fn a_firewall_that_opens_after_minutes_is_noticed() {
    let mut bench = Bench::new(false);
    bench.pass(300.0);
    bench.opens = true;
    bench.pass(16.1);
    assert_eq!(bench.path.direct(bench.now), Some(PEER.into()));
}

#[test]
fn an_answer_that_was_not_asked_for_counts_for_nothing() {
    let mut bench = Bench::new(false);
    bench.pass(0.05);
    for nonce in [0, 5, u64::MAX - 1] {
        bench.path.reached(bench.now, nonce);
    }
    assert_eq!(bench.path.direct(bench.now), None);
    bench.path.reached(bench.now, u64::MAX);
    assert!(bench.path.direct(bench.now).is_some());
    // A second copy of an answer does not prolong its life.
    for _ in 0..20 {
        bench.path.reached(bench.now, u64::MAX);
        bench.pass(0.1);
    }
    assert_eq!(bench.path.direct(bench.now), None);
}

#[test]
fn new_addresses_take_the_place_of_silent_ones_only() {
    let mut bench = Bench::new(true);
    bench.pass(1.0);
    for port in 100..200 {
        bench.path.learn(bench.now, (PEER.0, port).into());
    }
    assert_eq!(bench.path.candidates.len(), MOST_CANDIDATES);
    assert_eq!(bench.path.direct(bench.now), Some(PEER.into()));
}

proptest! {
    #[test]
    fn the_direct_way_is_used_only_while_it_answers(outages in proptest::collection::vec((1..40_u32, 1..40_u32), 1..12)) {
        let mut bench = Bench::new(true);
        for (up, down) in outages {
            bench.opens = true;
            bench.pass(f64::from(up) / 10.0);
            bench.opens = false;
            bench.pass(f64::from(down) / 10.0);
            if down >= 13 {
                prop_assert_eq!(bench.path.direct(bench.now), None);
            }
        }
        bench.opens = true;
        bench.pass(80.0);
        prop_assert_eq!(bench.pass(1.0), 1.0);
    }
}
