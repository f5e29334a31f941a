//! The requests that are measured: 452 KB up, 7 KB down, 1 Gb/s unless the name says otherwise.

use std::time::Duration;

use crate::link::{Jitter, Loss};
use crate::paths::{PathSpec, MILLISECOND};
use crate::requests::Plan;

pub struct Row {
    pub name: &'static str,
    pub round_trip: Duration,
    pub path: PathSpec,
    pub plan: Plan,
    /// Each is a run of its own.
    pub seeds: u64,
    /// Most milliseconds of our median and 95th percentile.
    pub limits: (f64, f64),
}

impl Row {
    fn new(name: &'static str, round_trip: u32, limits: (f64, f64)) -> Self {
        let round_trip = round_trip * MILLISECOND;
        Self {
            name,
            round_trip,
            path: PathSpec::clean(round_trip),
            plan: Plan::new(500 * MILLISECOND, 100),
            seeds: 1,
            limits,
        }
    }

    fn with_path(mut self, change: impl Fn(PathSpec) -> PathSpec) -> Self {
        self.path = change(self.path);
        self
    }

    /// Random rows need many requests for a 95th percentile that means something.
    fn with_seeds(mut self, seeds: u64) -> Self {
        self.seeds = seeds;
        self.plan.requests = 200;
        self
    }
}

pub fn slow_cadence() -> Row {
    let mut row = Row::new("RTT 80 ms, one request every 2 s", 80, (84.5, 84.5));
    row.plan.every = Duration::from_secs(2);
    row
}

pub fn independent_loss() -> Row {
    Row::new("RTT 20 ms, 2 % loss", 20, (26.0, 30.0))
        .with_path(|path| path.with_loss(Loss::Independent { probability: 0.02 }))
        .with_seeds(4)
}

pub fn burst_loss() -> Row {
    Row::new("RTT 20 ms, 2 % loss in bursts of 5", 20, (30.0, 45.0))
        .with_path(|path| path.with_loss(Loss::bursts(0.02, 5.0)))
        .with_seeds(2)
}

pub fn fades() -> Row {
    // 2 % of the time.
    let fades = Loss::Fades {
        apart: 245 * MILLISECOND,
        lasting: 5 * MILLISECOND,
    };
    Row::new(
        "RTT 20 ms, fades of 5 ms, 2 % of the time",
        20,
        (60.0, 100.0),
    )
    .with_path(|path| path.with_loss(fades))
    .with_seeds(2)
}

pub fn long_lossy_path() -> Row {
    Row::new("RTT 80 ms, 1 % loss", 80, (85.0, 88.0))
        .with_path(|path| path.with_loss(Loss::Independent { probability: 0.01 }))
        .with_seeds(2)
}

pub fn heavy_loss() -> Row {
    Row::new("RTT 40 ms, 5 % loss", 40, (50.0, 85.0))
        .with_path(|path| path.with_loss(Loss::Independent { probability: 0.05 }))
        .with_seeds(2)
}

pub fn jitter_in_order() -> Row {
    let amount = MILLISECOND;
    Row::new("RTT 25 ms, jitter 2 ms, in order", 25, (32.0, 32.0))
        .with_path(|path| path.with_jitter(Jitter::InOrder { amount }))
}

pub fn jitter_of_the_uplink() -> Row {
    let amount = 2 * MILLISECOND;
    Row::new(
        "RTT 25 ms, jitter 2 ms, all of it up, in order",
        25,
        (32.0, 32.0),
    )
    .with_path(|mut path| {
        path.up.jitter = Jitter::InOrder { amount };
        path
    })
}

pub fn jitter_that_reorders() -> Row {
    let amount = MILLISECOND;
    // quinn's receiver forgets packets that are more than 128 behind, so that a gigabit cannot be used.
    Row::new("RTT 25 ms, jitter 2 ms, packets overtake", 25, (34.5, 36.0))
        .with_path(|path| path.with_jitter(Jitter::Reordering { amount }))
        .with_seeds(2)
}

pub fn jitter_that_reorders_back_to_back() -> Row {
    let mut row = jitter_that_reorders();
    row.name = "RTT 25 ms, jitter 2 ms, packets overtake, back to back";
    row.plan.every = Duration::ZERO;
    row.limits = (33.0, 34.0);
    row
}

pub fn jitter_and_loss() -> Row {
    let amount = 2 * MILLISECOND;
    Row::new(
        "RTT 10 ms, jitter 4 ms in order, 1 % loss",
        10,
        (20.0, 30.0),
    )
    .with_path(|path| path.with_jitter(Jitter::InOrder { amount }))
    .with_path(|path| path.with_loss(Loss::Independent { probability: 0.01 }))
    .with_seeds(1)
}

pub fn radio() -> Row {
    let amount = 8 * MILLISECOND;
    let mut row = Row::new(
        "RTT 20 ms, jitter 16 ms in order, 1 % loss, 200 Mb/s",
        20,
        (60.0, 75.0),
    )
    .with_path(|path| path.with_rate(200_000_000, 4.0))
    .with_path(|path| path.with_jitter(Jitter::InOrder { amount }))
    .with_path(|path| path.with_loss(Loss::Independent { probability: 0.01 }))
    .with_seeds(1);
    row.plan.every = 200 * MILLISECOND;
    row
}

pub fn wifi() -> Row {
    // A request is three round trips on the wire, so that its own bytes stand in the path as a queue does.
    let amount = Duration::from_micros(2_500);
    let mut row = Row::new(
        "RTT 6 ms, jitter 5 ms in order, 2 % loss in bursts of 15, 200 Mb/s",
        6,
        (31.0, 40.0),
    )
    .with_path(|path| path.with_rate(200_000_000, 10.0))
    .with_path(|path| path.with_jitter(Jitter::InOrder { amount }))
    .with_path(|path| path.with_loss(Loss::bursts(0.02, 15.0)))
    .with_seeds(20);
    row.plan = Plan::new(Duration::ZERO, 500);
    row
}

pub fn lte() -> Row {
    let mut row = Row::new(
        "RTT 60 ms, 20 Mb/s up, queue of 100 packets, 0.5 % loss",
        60,
        (255.0, 256.0),
    )
    .with_path(|path| path.with_loss(Loss::Independent { probability: 0.005 }))
    .with_path(|mut path| {
        path.up.bits_per_second = 20_000_000;
        path.up.queue_bytes = 100 * 1500;
        path.down.bits_per_second = 100_000_000;
        path
    })
    .with_seeds(2);
    row.plan.every = Duration::ZERO;
    row
}

pub fn lte_at_rest() -> Row {
    // Each request finds the queue empty. A window that is a little too large loses the last packets of each then, which is no
    // heavy loss, and where queues lose most there is no repair for what is lost at random.
    let mut row = lte();
    row.name = "RTT 60 ms, 20 Mb/s up, 0.5 % loss, one request every 1.7 s";
    row.limits = (255.0, 320.0);
    row.plan.every = 1_700 * MILLISECOND;
    row
}

pub fn hundred_megabits() -> Row {
    // A request of twice the queue overflows it at first. Then the window fits, but for one request in six: it has to find out
    // whether the path has become wider.
    Row::new(
        "RTT 20 ms, 100 Mb/s, queue of one round trip",
        20,
        (62.0, 80.0),
    )
    .with_path(|path| path.with_rate(100_000_000, 1.0))
}

pub fn local_network() -> Row {
    Row::new("RTT 0.2 ms", 0, (5.0, 5.0)).with_path(|_| PathSpec::clean(MILLISECOND / 5))
}

pub fn all() -> Vec<Row> {
    vec![
        local_network(),
        slow_cadence(),
        independent_loss(),
        burst_loss(),
        fades(),
        long_lossy_path(),
        heavy_loss(),
        jitter_in_order(),
        jitter_of_the_uplink(),
        jitter_that_reorders(),
        jitter_that_reorders_back_to_back(),
        jitter_and_loss(),
        radio(),
        wifi(),
        lte(),
        lte_at_rest(),
        hundred_megabits(),
    ]
}
