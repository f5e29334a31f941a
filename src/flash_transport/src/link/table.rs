//! The table of waiting requests. Pure: the caller locks and waits.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Identifies a request in the table; never reused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId {
    client: Arc<str>,
    number: u64,
}

/// Waiting requests: in order within a client, round-robin between clients, so that a client that
/// floods the server delays each other client by one request at most.
#[derive(Debug)]
pub struct RequestTable<T> {
    /// Holds no empty queue.
    lines: HashMap<Arc<str>, VecDeque<(u64, T)>>,
    /// The clients with waiting requests, the next one first.
    turns: VecDeque<Arc<str>>,
    entered: u64,
    closed: bool,
}

impl<T> RequestTable<T> {
    pub fn new() -> Self {
        Self {
            lines: HashMap::new(),
            turns: VecDeque::new(),
            entered: 0,
            closed: false,
        }
    }

    /// Add a request of `client`; a closed table returns it.
    pub fn enter(&mut self, client: &Arc<str>, request: T) -> Result<RequestId, T> {
        if self.closed {
            return Err(request);
        }
        let number = self.entered;
        self.entered += 1;
        let line = self.lines.entry(client.clone()).or_default();
        if line.is_empty() {
            self.turns.push_back(client.clone());
        }
        line.push_back((number, request));
        Ok(RequestId {
            client: client.clone(),
            number,
        })
    }

    /// Take the oldest request of the client whose turn it is.
    pub fn take(&mut self) -> Option<T> {
        let client = self.turns.pop_front()?;
        let line = self.lines.get_mut(&client)?;
        let taken = line.pop_front();
        if line.is_empty() {
            self.lines.remove(&client);
        } else {
            self.turns.push_back(client);
        }
        taken.map(|(_, request)| request)
    }

    /// Remove a request that is no longer wanted; `None` if it was taken before.
    pub fn withdraw(&mut self, id: &RequestId) -> Option<T> {
        let line = self.lines.get_mut(&id.client)?;
        let place = line.iter().position(|(number, _)| *number == id.number)?;
        let withdrawn = line.remove(place);
        if line.is_empty() {
            self.lines.remove(&id.client);
            self.turns.retain(|client| *client != id.client);
        }
        withdrawn.map(|(_, request)| request)
    }

    /// Accept no more requests, and return those that wait.
    pub fn close(&mut self) -> Vec<T> {
        self.closed = true;
        std::iter::from_fn(|| self.take()).collect()
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    pub fn len(&self) -> usize {
        self.lines.values().map(VecDeque::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

impl<T> Default for RequestTable<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn client(name: &str) -> Arc<str> {
        name.into()
    }

    #[test]
    fn requests_of_one_client_leave_in_the_order_of_their_coming() {
        let mut table = RequestTable::new();
        table.enter(&client("arm"), "a").unwrap();
        table.enter(&client("arm"), "b").unwrap();
        assert_eq!(table.take(), Some("a"));
        assert_eq!(table.take(), Some("b"));
        assert_eq!(table.take(), None);
    }

    #[test]
    fn a_client_that_floods_keeps_others_waiting_for_one_request_at_most() {
        let mut table = RequestTable::new();
        for number in 0..64 {
            table.enter(&client("flood"), number).unwrap();
        }
        table.enter(&client("arm"), 1000).unwrap();
        table.enter(&client("leg"), 2000).unwrap();
        let order: Vec<_> = std::iter::from_fn(|| table.take()).take(5).collect();
        assert_eq!(order, [0, 1000, 2000, 1, 2]);
    }

    #[test]
    fn clients_with_many_requests_take_turns() {
        let mut table = RequestTable::new();
        for number in 0..3 {
            for name in ["a", "b"] {
                table
                    .enter(&client(name), format!("{name}{number}"))
                    .unwrap();
            }
        }
        let order: Vec<_> = std::iter::from_fn(|| table.take()).collect();
        assert_eq!(order, ["a0", "b0", "a1", "b1", "a2", "b2"]);
    }

    #[test]
    fn a_withdrawn_request_is_never_taken() {
        let mut table = RequestTable::new();
        let first = table.enter(&client("arm"), "a").unwrap();
        table.enter(&client("leg"), "b").unwrap();
        assert_eq!(table.withdraw(&first), Some("a"));
        assert_eq!(table.withdraw(&first), None);
        assert_eq!(table.take(), Some("b"));
    }

    #[test]
    fn a_taken_request_cannot_be_withdrawn() {
        let mut table = RequestTable::new();
        let id = table.enter(&client("arm"), "a").unwrap();
        table.take();
        assert_eq!(table.withdraw(&id), None);
    }

    #[test]
    fn a_closed_table_hands_out_what_waits_and_takes_nothing_more() {
        let mut table = RequestTable::new();
        table.enter(&client("arm"), "a").unwrap();
        assert_eq!(table.close(), vec!["a"]);
        assert_eq!(table.enter(&client("arm"), "b"), Err("b"));
        assert!(table.is_closed() && table.is_empty());
        assert_eq!(table.close(), Vec::<&str>::new());
    }

    proptest! {
        /// In any sequence, each request leaves once, and no client waits while another is served
        /// twice.
        #[test]
        fn every_request_leaves_once_and_turns_are_kept(
            steps in proptest::collection::vec((0..4u8, 0..3u8), 0..200)
        ) {
            let mut table = RequestTable::new();
            let (mut entered, mut left, mut ids) = (Vec::new(), Vec::new(), Vec::new());
            for (number, (who, what)) in steps.into_iter().enumerate() {
                let name = client(&who.to_string());
                match what {
                    0 | 1 => {
                        ids.push(table.enter(&name, (who, number)).unwrap());
                        entered.push((who, number));
                    }
                    _ if number % 2 == 0 => left.extend(table.take()),
                    _ => left.extend(ids.pop().and_then(|id| table.withdraw(&id))),
                }
                prop_assert_eq!(table.len(), entered.len() - left.len());
            }
            let rest = table.close();
            for (place, (who, _)) in rest.iter().enumerate() {
                // Between two requests of one client, each other client with a request gets a turn.
                let Some(next) = rest[place + 1..].iter().position(|(other, _)| other == who) else { continue };
                let between = &rest[place + 1..place + 1 + next];
                for other in 0..4u8 {
                    let waits = rest[place + 1..].iter().any(|(name, _)| *name == other);
                    prop_assert!(other == *who || !waits || between.iter().any(|(name, _)| *name == other));
                }
            }
            left.extend(rest);
            left.sort_unstable_by_key(|(_, number)| *number);
            prop_assert_eq!(left, entered);
        }
    }
}
