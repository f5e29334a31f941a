//! Runs of the simulation: arms and paths in, milliseconds and shares out.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use flash_transport::congestion::LinkEstimate;
use quinn_proto::{ClientConfig, ServerConfig};

use crate::arms::Arm;
use crate::bulk::{BulkSender, BulkSink};
use crate::link::{Jitter, LinkCounts, LinkSpec};
use crate::network::{LinkId, Network};
use crate::paths::{PathSpec, GIGABIT, MILLISECOND};
use crate::requests::{AnswerServer, Log, Plan, RequestClient};
use crate::tls::Tls;

/// More than the longest run needs; a run that never ends fails.
const MOST_STEPS: u64 = 20_000_000;

/// A robot and its server on a path.
pub struct Robot {
    pub network: Network,
    pub up: LinkId,
    symbols: Rc<Cell<u64>>,
    log: Log,
    requests: usize,
}

impl Robot {
    pub fn new(seed: u64, arm: Arm, path: &PathSpec, plan: Plan) -> Self {
        Self::with_tls(seed, arm, path, plan, &Tls::new())
    }

    /// A robot whose client remembers the sessions of others with the same `tls`.
    pub fn with_tls(seed: u64, arm: Arm, path: &PathSpec, mut plan: Plan, tls: &Tls) -> Self {
        plan.recovery = arm.recovery(plan.recovery);
        let mut network = Network::new(seed);
        let symbols = Rc::default();
        let up = network.add_link(path.up.clone());
        let down = network.add_link(path.down.clone());
        let server = network.add_host(
            &[down],
            Some(server_config(arm, tls)),
            Box::new(AnswerServer::new(plan.recovery, Rc::clone(&symbols))),
        );
        let requests = plan.requests;
        let log = Log::default();
        let app = RequestClient::new(plan, Rc::clone(&log), Rc::clone(&symbols));
        let client = network.add_host(&[up], None, Box::new(app));
        network.connect(client, client_config(arm, tls), server);
        Self {
            network,
            up,
            symbols,
            log,
            requests,
        }
    }

    /// Until all requests are answered.
    pub fn run(&mut self) {
        self.run_until_answered(self.requests);
    }

    pub fn run_until_answered(&mut self, requests: usize) {
        let log = Rc::clone(&self.log);
        self.network
            .run_until(MOST_STEPS, || log.borrow().requests.len() >= requests);
    }

    /// From each request to its answer.
    pub fn latencies(&self) -> Vec<Duration> {
        request_latencies(&self.log)
    }

    /// What the client knew of the path after each answer.
    pub fn estimates(&self) -> Vec<LinkEstimate> {
        self.log.borrow().estimates.clone()
    }

    /// Datagrams with repair that both ends have sent.
    pub fn symbols(&self) -> u64 {
        self.symbols.get()
    }

    pub fn uplink(&self) -> LinkCounts {
        self.network.link(self.up).counts
    }
}

/// Latencies of all requests of `plan` on several seeds, after those that a connection takes to know its path.
pub fn latencies(arm: Arm, path: &PathSpec, plan: &Plan, seeds: u64) -> Vec<Duration> {
    let mut all = Vec::new();
    for seed in 1..=seeds {
        let mut robot = Robot::new(seed, arm, path, plan.clone());
        robot.run();
        all.extend_from_slice(&robot.latencies()[WARM_UP..]);
    }
    all
}

/// Requests at the start of a run that do not count: MTU discovery takes as long.
pub const WARM_UP: usize = 3;

/// Requests of ours on a path where a download of somebody else's goes on: their latencies, and the download's bits per second.
pub fn beside_a_download(
    seed: u64,
    arm: Arm,
    path: &PathSpec,
    mut plan: Plan,
) -> (Vec<Duration>, f64) {
    plan.recovery = arm.recovery(plan.recovery);
    let mut network = Network::new(seed);
    let bottleneck = network.add_link(path.up.clone());
    let down = network.add_link(path.down.clone());
    let downloaded = add_bulk_flow(&mut network, Arm::QuinnDefault, path, bottleneck, down);
    network.run_for(SETTLING);

    let tls = Tls::new();
    let requests = plan.requests;
    let app = AnswerServer::new(plan.recovery, Rc::default());
    let server = network.add_host(&[down], Some(server_config(arm, &tls)), Box::new(app));
    let log = Log::default();
    let app = RequestClient::new(plan, Rc::clone(&log), Rc::default());
    let access = network.add_link(access_link(path));
    let client = network.add_host(&[access, bottleneck], None, Box::new(app));
    network.connect(client, client_config(arm, &tls), server);

    let before = (network.elapsed(), downloaded.get());
    network.run_until(MOST_STEPS, || log.borrow().requests.len() >= requests);
    let bits = 8 * (downloaded.get() - before.1);
    (
        request_latencies(&log),
        bits as f64 / (network.elapsed() - before.0).as_secs_f64(),
    )
}

fn request_latencies(log: &Log) -> Vec<Duration> {
    let log = log.borrow();
    let requests = log.requests.iter();
    requests.map(|(start, end)| *end - *start).collect()
}

/// When a client that connects at 0 has the answer to its hello and to its first request.
#[derive(Debug, Clone, Copy)]
pub struct FirstAnswers {
    pub hello: Duration,
    pub request: Duration,
}

/// Of a client that does not know the server, and of the same client when it comes back.
pub fn first_answers(arm: Arm, path: &PathSpec) -> (FirstAnswers, FirstAnswers) {
    let tls = Tls::new();
    let connect = |early_hello| {
        let plan = Plan {
            early_hello,
            ..Plan::new(Duration::from_secs(1), 1)
        };
        let mut robot = Robot::with_tls(1, arm, path, plan, &tls);
        robot.run();
        let answered = robot.network.elapsed();
        let (_, hello) = robot.log.borrow().hello.expect("an answer to the hello");
        // The session arrives behind the answer.
        robot.network.run_for(Duration::from_secs(1));
        FirstAnswers {
            hello: robot.network.since_start(hello),
            request: answered,
        }
    };
    (connect(false), connect(true))
}

/// What `arm` gets of a bottleneck beside quinn's CUBIC, both with more to send at any time: the mean over which of them came
/// first, and over seeds.
pub fn share_beside_cubic(arm: Arm, path: &PathSpec, seeds: u64) -> f64 {
    let mut shares = Vec::new();
    for seed in 1..=seeds {
        for ours_first in [true, false] {
            shares.push(one_share(seed, arm, path, ours_first));
        }
    }
    shares.iter().sum::<f64>() / shares.len() as f64
}

/// The second flow comes so much later, ...
const HEAD_START: Duration = Duration::from_secs(3);
/// ... both settle for this time, and are measured for 15 s and so many round trips: CUBIC loses once in some seconds, the
/// more the longer the path, and a few losses more or less must not decide.
const SETTLING: Duration = Duration::from_secs(5);
const MEASURED_ROUND_TRIPS: u32 = 750;

fn one_share(seed: u64, arm: Arm, path: &PathSpec, ours_first: bool) -> f64 {
    let mut network = Network::new(seed);
    let bottleneck = network.add_link(path.up.clone());
    let down = network.add_link(path.down.clone());
    let start =
        |network: &mut Network, arm: Arm| add_bulk_flow(network, arm, path, bottleneck, down);
    let first = start(
        &mut network,
        if ours_first { arm } else { Arm::QuinnDefault },
    );
    network.run_for(HEAD_START);
    let second = start(
        &mut network,
        if ours_first { Arm::QuinnDefault } else { arm },
    );
    network.run_for(SETTLING);
    let before = (first.get(), second.get());
    network.run_for(Duration::from_secs(15) + 2 * MEASURED_ROUND_TRIPS * path.up.one_way);
    let first = (first.get() - before.0) as f64;
    let second = (second.get() - before.1) as f64;
    let ours = if ours_first { first } else { second };
    ours / (first + second)
}

/// A sender that always has more to send; returns what counts the bytes that arrive.
fn add_bulk_flow(
    network: &mut Network,
    arm: Arm,
    path: &PathSpec,
    bottleneck: LinkId,
    down: LinkId,
) -> Rc<Cell<u64>> {
    let tls = Tls::new();
    let received = Rc::new(Cell::new(0));
    let sink = BulkSink::new(Rc::clone(&received));
    let server = network.add_host(&[down], Some(server_config(arm, &tls)), Box::new(sink));
    let access = network.add_link(access_link(path));
    let client = network.add_host(&[access, bottleneck], None, Box::<BulkSender>::default());
    network.connect(client, client_config(arm, &tls), server);
    received
}

/// In front of a bottleneck. Its jitter of a few packets keeps the flows from falling into step: without it, the order in which
/// packets reach a full queue, not their controllers, decides who loses (Floyd and Jacobson 1992).
fn access_link(path: &PathSpec) -> LinkSpec {
    let packet = Duration::from_secs_f64(1500.0 * 8.0 / path.up.bits_per_second as f64);
    LinkSpec {
        one_way: 3 * packet + MILLISECOND,
        bits_per_second: GIGABIT,
        jitter: Jitter::InOrder { amount: 3 * packet },
        queue_bytes: 8 << 20,
        ..path.up.clone()
    }
}

pub fn client_config(arm: Arm, tls: &Tls) -> ClientConfig {
    let mut config = ClientConfig::new(tls.client.clone());
    config.transport_config(Arc::new(arm.client()));
    config
}

pub fn server_config(arm: Arm, tls: &Tls) -> ServerConfig {
    let mut config = ServerConfig::with_crypto(tls.server.clone());
    config.transport_config(Arc::new(arm.server()));
    config
}
