//! The weight of each old sample in each new one.

/// The weights of one direction: a triangle, widened by the reduction, as Pillow's BILINEAR.
pub(super) struct Weights<W> {
    /// The first old sample of each new one.
    starts: Vec<usize>,
    /// Weights of each new sample, an even number. The last may be zero and reach beyond the old
    /// samples.
    taps: usize,
    values: Vec<W>,
}

impl Weights<f64> {
    /// The shares of old samples in each new one; they add up to one.
    pub fn shares(size: usize, new_size: usize) -> Self {
        let windows: Vec<_> = (0..new_size)
            .map(|new| window(size, new_size, new))
            .collect();
        let longest = windows.iter().map(|(_, shares)| shares.len()).max();
        let taps = longest.map_or(2, |longest| longest.next_multiple_of(2));
        let mut values = vec![0.0; new_size * taps];
        for ((_, shares), values) in windows.iter().zip(values.chunks_exact_mut(taps)) {
            values[..shares.len()].copy_from_slice(shares);
        }
        Self {
            starts: windows.into_iter().map(|(start, _)| start).collect(),
            taps,
            values,
        }
    }

    pub fn largest(&self) -> f64 {
        self.values.iter().copied().fold(0.0, f64::max)
    }

    /// The same in another unit.
    pub fn map<W>(self, weight: impl Fn(f64) -> W) -> Weights<W> {
        Weights {
            starts: self.starts,
            taps: self.taps,
            values: self.values.into_iter().map(weight).collect(),
        }
    }
}

impl<W> Weights<W> {
    /// Number of new samples.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// The first old sample of a new one, and the weights from there on.
    #[inline(always)]
    pub fn window(&self, new: usize) -> (usize, &[W]) {
        (
            self.starts[new],
            &self.values[new * self.taps..][..self.taps],
        )
    }

    /// End of the last window, which may lie beyond the last old sample.
    pub fn reach(&self) -> usize {
        self.starts.iter().max().map_or(0, |last| last + self.taps)
    }
}

fn window(size: usize, new_size: usize, new: usize) -> (usize, Vec<f64>) {
    let scale = size as f64 / new_size as f64;
    let support = scale.max(1.0);
    let center = (new as f64 + 0.5) * scale;
    let start = (center - support + 0.5).max(0.0) as usize;
    let end = ((center + support + 0.5) as usize).min(size);
    let mut shares: Vec<_> = (start..end)
        .map(|old| {
            let distance = (old as f64 - center + 0.5) / support;
            (1.0 - distance.abs()).max(0.0)
        })
        .collect();
    let sum: f64 = shares.iter().sum();
    shares.iter_mut().for_each(|share| *share /= sum);
    (start, shares)
}
