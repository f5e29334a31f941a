//! Decides which requests a newer observation of the same session supersedes. Pure: no clock, no
//! socket.
//!
//! A request that waits (for a connection, or for a server that is not ready) is superseded. Of the
//! requests that are being sent, the oldest stays: on a link that is slower than its robot no
//! request would ever arrive otherwise. Once the server has all of a request, the server decides:
//! the request that the policy works on is answered, one that waits is superseded.

use std::collections::HashMap;

/// Identifies a request; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId(u64);

/// How far a request has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Waits for a connection, or for a server that is not ready.
    Waits,
    IsSent,
    /// The server has all of it.
    HasArrived,
}

/// The requests under way of each session, oldest first, each with its `T`.
#[derive(Debug)]
pub struct Lines<T> {
    lines: HashMap<String, Vec<Entry<T>>>,
    entered: u64,
}

#[derive(Debug)]
struct Entry<T> {
    id: RequestId,
    progress: Progress,
    with: T,
}

impl<T> Lines<T> {
    /// Add the newest request of a session; returns the `T` of those that it supersedes.
    pub fn enter(&mut self, session: &str, with: T) -> (RequestId, Vec<T>) {
        let id = RequestId(self.entered);
        self.entered += 1;
        let line = self.lines.entry(session.to_owned()).or_default();
        let mut gone = Vec::new();
        let mut one_is_sent = false;
        for entry in std::mem::take(line) {
            let stays = match entry.progress {
                Progress::Waits => false,
                Progress::IsSent => !std::mem::replace(&mut one_is_sent, true),
                Progress::HasArrived => true,
            };
            if stays {
                line.push(entry);
            } else {
                gone.push(entry.with);
            }
        }
        line.push(Entry {
            id,
            progress: Progress::Waits,
            with,
        });
        (id, gone)
    }

    /// Note how far a request has got. One that waits again although there is a newer one is
    /// superseded: returns its `T`.
    pub fn note(&mut self, session: &str, id: RequestId, progress: Progress) -> Option<T> {
        let line = self.lines.get_mut(session)?;
        let place = line.iter().position(|entry| entry.id == id)?;
        if progress == Progress::Waits && place + 1 < line.len() {
            return Some(line.remove(place).with);
        }
        line[place].progress = progress;
        None
    }

    /// Remove a finished request. It may have been superseded before.
    pub fn leave(&mut self, session: &str, id: RequestId) {
        let Some(line) = self.lines.get_mut(session) else {
            return;
        };
        line.retain(|entry| entry.id != id);
        if line.is_empty() {
            self.lines.remove(session);
        }
    }
}

impl<T> Default for Lines<T> {
    fn default() -> Self {
        Self {
            lines: HashMap::new(),
            entered: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const ARM: &str = "arm-7";

    fn waiting(lines: &mut Lines<&'static str>, name: &'static str) -> Vec<&'static str> {
        lines.enter(ARM, name).1
    }

    fn sent(lines: &mut Lines<&'static str>, name: &'static str) -> Vec<&'static str> {
        let (id, gone) = lines.enter(ARM, name);
        lines.note(ARM, id, Progress::IsSent);
        gone
    }

    /// The cases for which every queue of this repository is tested, the Python ones and the
    /// server's too. Requests that are sent side by side take no turns: the case names the one that
    /// is sent.
    #[test]
    fn the_newest_request_of_a_session_wins() {
        let cases: Vec<Value> =
            serde_json::from_str(include_str!("../../../tests/data/newest_wins.json")).unwrap();
        assert!(cases.len() >= 10);
        for case in &cases {
            let mut lines = Lines::default();
            let mut known = HashMap::new();
            let mut waiting = Vec::new();
            for event in case["events"].as_array().unwrap() {
                let request = event["request"].as_u64();
                let gone = match event["do"].as_str().unwrap() {
                    "submit" => {
                        let session = event["session"].as_str().unwrap();
                        let (id, gone) = lines.enter(session, request.unwrap());
                        known.insert(request.unwrap(), (session, id));
                        waiting.push(request.unwrap());
                        gone
                    }
                    "take" => match event["started"].as_u64() {
                        Some(started) => {
                            let (session, id) = known[&started];
                            lines.note(session, id, Progress::HasArrived);
                            waiting.retain(|other| *other != started);
                            Vec::new()
                        }
                        None => Vec::new(),
                    },
                    "wait_again" => {
                        let (session, id) = known[&request.unwrap()];
                        waiting.push(request.unwrap());
                        lines
                            .note(session, id, Progress::Waits)
                            .into_iter()
                            .collect()
                    }
                    "finish" | "cancel" => {
                        let (session, id) = known[&request.unwrap()];
                        lines.leave(session, id);
                        waiting.retain(|other| Some(*other) != request);
                        Vec::new()
                    }
                    other => panic!("unknown event {other}"),
                };
                waiting.retain(|request| !gone.contains(request));
                waiting.sort_unstable();
                let expected: Vec<u64> =
                    serde_json::from_value(event.get("superseded").cloned().unwrap_or_default())
                        .unwrap_or_default();
                assert_eq!(gone, expected, "{}: {event}", case["name"]);
                let mut left: Vec<u64> = serde_json::from_value(event["waiting"].clone()).unwrap();
                left.sort_unstable();
                assert_eq!(waiting, left, "{}: {event}", case["name"]);
            }
        }
    }

    #[test]
    fn a_newer_request_takes_the_place_of_one_that_waits() {
        let mut lines = Lines::default();
        assert_eq!(waiting(&mut lines, "a"), [""; 0]);
        assert_eq!(waiting(&mut lines, "b"), ["a"]);
        assert_eq!(waiting(&mut lines, "c"), ["b"]);
    }

    #[test]
    fn the_oldest_that_is_being_sent_stays_and_those_behind_it_give_way() {
        let mut lines = Lines::default();
        sent(&mut lines, "a");
        assert_eq!(sent(&mut lines, "b"), [""; 0]);
        assert_eq!(sent(&mut lines, "c"), ["b"]);
        assert_eq!(waiting(&mut lines, "d"), ["c"]);
    }

    #[test]
    fn the_next_one_is_the_oldest_when_the_first_has_arrived() {
        let mut lines = Lines::default();
        let (first, _) = lines.enter(ARM, "a");
        lines.note(ARM, first, Progress::HasArrived);
        sent(&mut lines, "b");
        assert_eq!(sent(&mut lines, "c"), [""; 0]);
        assert_eq!(waiting(&mut lines, "d"), ["c"]);
    }

    #[test]
    fn a_request_that_waits_again_gives_way_to_one_that_comes_and_to_one_that_came() {
        let mut lines = Lines::default();
        let (first, _) = lines.enter(ARM, "a");
        lines.note(ARM, first, Progress::HasArrived);
        assert_eq!(lines.note(ARM, first, Progress::Waits), None);
        let (second, gone) = lines.enter(ARM, "b");
        assert_eq!(gone, ["a"]);
        lines.note(ARM, second, Progress::HasArrived);
        assert_eq!(waiting(&mut lines, "c"), [""; 0]);
        assert_eq!(lines.note(ARM, second, Progress::Waits), Some("b"));
        assert_eq!(lines.note(ARM, second, Progress::Waits), None);
    }

    #[test]
    fn sessions_leave_each_other_alone() {
        let mut lines = Lines::default();
        waiting(&mut lines, "a");
        assert_eq!(lines.enter("other", "b").1, [""; 0]);
    }

    #[test]
    fn a_session_without_requests_takes_no_room() {
        let mut lines = Lines::default();
        let (first, _) = lines.enter(ARM, "a");
        let (second, _) = lines.enter(ARM, "b");
        lines.leave(ARM, first);
        lines.leave(ARM, second);
        lines.leave(ARM, second);
        assert!(lines.lines.is_empty());
        assert_eq!(lines.note(ARM, second, Progress::IsSent), None);
    }
}
