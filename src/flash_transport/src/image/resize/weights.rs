//! How much of each old sample is in each new one.

/// Of one direction: a triangle as wide as the reduction, which is Pillow's BILINEAR.
pub(super) struct Weights<W> {
    /// The first old sample of each new one.
    starts: Vec<usize>,
    /// Weights of each new sample, an even number. The last ones may be zero, and of samples beyond the old ones.
    taps: usize,
    values: Vec<W>,
}

impl Weights<f64> {
    /// Shares of old samples, which are one in all for each new one.
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
    /// How many new samples there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// The first old sample and the weights of it and those after it.
    #[inline(always)]
    pub fn window(&self, new: usize) -> (usize, &[W]) {
        (
            self.starts[new],
            &self.values[new * self.taps..][..self.taps],
        )
    }

    /// Old samples of all windows, those beyond the last one included.
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
