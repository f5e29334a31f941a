//! A limit on what passes in a time. Pure.

use std::time::Instant;

/// Fills at `rate` a second, up to `most`, and is full at first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    rate: f64,
    most: f64,
    filled: f64,
    at: Option<Instant>,
}

impl Bucket {
    pub fn new(rate: f64, most: f64) -> Self {
        Self {
            rate,
            most,
            filled: most,
            at: None,
        }
    }

    /// Take `amount`, if that much is in.
    pub fn take(&mut self, now: Instant, amount: f64) -> bool {
        if let Some(before) = self.at {
            let gained = now.saturating_duration_since(before).as_secs_f64() * self.rate;
            self.filled = (self.filled + gained).min(self.most);
        }
        self.at = Some(self.at.map_or(now, |before| before.max(now)));
        let fits = amount <= self.filled;
        if fits {
            self.filled -= amount;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_passes_is_the_burst_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(100.0, 50.0);
        let passed = |bucket: &mut Bucket, second: f64| {
            let now = start + Duration::from_secs_f64(second);
            (0..1000).filter(|_| bucket.take(now, 1.0)).count()
        };
        assert_eq!(passed(&mut bucket, 0.0), 50);
        assert_eq!(passed(&mut bucket, 0.1), 10);
        assert_eq!(passed(&mut bucket, 9.0), 50);
        assert_eq!(passed(&mut bucket, 8.0), 0);
    }
}
