//! The table of `docs/network.md`: `cargo test -p flash_transport --test simulation -- --ignored --nocapture --test-threads 1 comparison`.

use std::panic::{catch_unwind, AssertUnwindSafe};

use crate::arms::Arm;
use crate::paths::{PathSpec, MILLISECOND};
use crate::report::{milliseconds, percentile};
use crate::rows;
use crate::scenario::{beside_a_download, first_answers, latencies, share_beside_cubic};
use crate::sharing::{bottlenecks, download_plan};

#[test]
#[ignore = "writes rows of docs/network.md's table"]
fn comparison_of_connections() {
    for (name, which) in [("first", 0), ("resumed", 1)] {
        let row = format!("RTT 80 ms, {name} connection: hello's answer / first actions");
        cells(&row, |arm| {
            let (first, resumed) = first_answers(arm, &PathSpec::clean(80 * MILLISECOND));
            let answers = [first, resumed][which];
            let hello = milliseconds(answers.hello);
            format!("{hello:.1} / {:.1}", milliseconds(answers.request))
        });
    }
}

/// BBR draws from the system's chance: its figures differ a little from run to run.
#[test]
#[ignore = "minutes long; writes the table of docs/network.md"]
fn comparison_of_settings() {
    let names: Vec<_> = Arm::ALL.iter().map(|arm| arm.name()).collect();
    println!("| p50 / p95, ms | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(names.len()));
    for row in rows::all() {
        cells(row.name, |arm| {
            // The slow ones take seconds of virtual time per request.
            let seeds = if arm == Arm::Ours { row.seeds } else { 1 };
            let run = || latencies(arm, &row.path, &row.plan, seeds);
            let Ok(latencies) = catch_unwind(AssertUnwindSafe(run)) else {
                return "loses its connection".to_owned();
            };
            let p50 = milliseconds(percentile(&latencies, 0.5));
            let p95 = milliseconds(percentile(&latencies, 0.95));
            format!("{p50:.1} / {p95:.1}")
        });
    }
    let (name, path) = bottlenecks().nth(1).expect("a bottleneck of 50 Mb/s");
    cells(
        &format!("beside a download, {name}; what the download gets"),
        |arm| {
            let (latencies, downloaded) = beside_a_download(1, arm, &path, download_plan());
            let p50 = milliseconds(percentile(&latencies, 0.5));
            let p95 = milliseconds(percentile(&latencies, 0.95));
            format!("{p50:.0} / {p95:.0}; {:.1} Mb/s", downloaded / 1e6)
        },
    );
    for (name, path) in bottlenecks() {
        cells(&format!("share beside CUBIC, {name}"), |arm| {
            format!("{:.0} %", share_beside_cubic(arm, &path, 2) * 100.0)
        });
    }
}

fn cells(row: &str, cell: impl Fn(Arm) -> String) {
    let cells: Vec<_> = Arm::ALL.into_iter().map(cell).collect();
    println!("| {row} | {} |", cells.join(" | "));
}
