//! The requests that wait for somebody to take them. Pure: the shell brings the lock and the waiting.

use std::collections::VecDeque;

/// Names a request from its entry on; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId(u64);

/// Waiting requests in the order of their coming.
#[derive(Debug)]
pub struct RequestTable<T> {
    waiting: VecDeque<(RequestId, T)>,
    entered: u64,
    closed: bool,
}

impl<T> RequestTable<T> {
    pub fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            entered: 0,
            closed: false,
        }
    }

    /// Enter a request; a closed table hands it back.
    pub fn enter(&mut self, request: T) -> Result<RequestId, T> {
        if self.closed {
            return Err(request);
        }
        let id = RequestId(self.entered);
        self.entered += 1;
        self.waiting.push_back((id, request));
        Ok(id)
    }

    /// Take the oldest request.
    pub fn take(&mut self) -> Option<T> {
        self.waiting.pop_front().map(|(_, request)| request)
    }

    /// Remove a request that nobody wants any more; `None` if it was taken before.
    pub fn withdraw(&mut self, id: RequestId) -> Option<T> {
        let place = self.waiting.iter().position(|(other, _)| *other == id)?;
        self.waiting.remove(place).map(|(_, request)| request)
    }

    /// Let nobody enter from now on, and hand out what waits.
    pub fn close(&mut self) -> Vec<T> {
        self.closed = true;
        self.waiting.drain(..).map(|(_, request)| request).collect()
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
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

    #[test]
    fn requests_leave_in_the_order_of_their_coming() {
        let mut table = RequestTable::new();
        table.enter("a").unwrap();
        table.enter("b").unwrap();
        assert_eq!(table.take(), Some("a"));
        assert_eq!(table.take(), Some("b"));
        assert_eq!(table.take(), None);
    }

    #[test]
    fn a_withdrawn_request_is_never_taken() {
        let mut table = RequestTable::new();
        let first = table.enter("a").unwrap();
        table.enter("b").unwrap();
        assert_eq!(table.withdraw(first), Some("a"));
        assert_eq!(table.withdraw(first), None);
        assert_eq!(table.take(), Some("b"));
    }

    #[test]
    fn a_taken_request_cannot_be_withdrawn() {
        let mut table = RequestTable::new();
        let id = table.enter("a").unwrap();
        table.take();
        assert_eq!(table.withdraw(id), None);
    }

    #[test]
    fn a_closed_table_hands_out_what_waits_and_takes_nothing_more() {
        let mut table = RequestTable::new();
        table.enter("a").unwrap();
        assert_eq!(table.close(), vec!["a"]);
        assert_eq!(table.enter("b"), Err("b"));
        assert!(table.is_closed() && table.is_empty());
        assert_eq!(table.close(), Vec::<&str>::new());
    }
}
