//! Both forms, compared with each other and with known numbers.

use proptest::prelude::*;

use super::bytes::resize_with;
use super::passes::{Passes, Plain};
use super::weights::Weights;
use super::Size;

/// Bytes around the image, which must stay as they are.
const MARGIN: usize = 5;
const UNTOUCHED: u8 = 77;

fn resized<P: Passes, const CHANNELS: usize>(
    passes: P,
    samples: &[u8],
    size: Size,
    new_size: Size,
) -> Vec<u8> {
    let narrow = new_size.width * CHANNELS;
    let stride = narrow + MARGIN;
    let mut out = vec![UNTOUCHED; stride * (new_size.height + 1)];
    resize_with::<P, CHANNELS>(passes, samples, size, &mut out, new_size, stride);
    for row in out.chunks_exact(stride) {
        assert!(row[narrow..].iter().all(|sample| *sample == UNTOUCHED));
    }
    let below = out.split_off(stride * new_size.height);
    assert!(below.iter().all(|sample| *sample == UNTOUCHED));
    out
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..length)
        .map(|_| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            // the ends of the range more often than the middle
            let byte = (state >> 48) as u8;
            match state >> 62 {
                0 => 0,
                1 => 255,
                _ => byte,
            }
        })
        .collect()
}

fn sizes(old: usize, new: usize) -> impl Strategy<Value = (Size, Size)> {
    let size = |most| (1..most, 1..most).prop_map(|(height, width)| Size { height, width });
    (size(old), size(new))
}

#[cfg(target_arch = "x86_64")]
fn both_ways<const CHANNELS: usize>(
    size: Size,
    new_size: Size,
    seed: u64,
) -> Result<(), TestCaseError> {
    let samples = noise(size.height * size.width * CHANNELS, seed);
    let plain = resized::<_, CHANNELS>(Plain, &samples, size, new_size);
    if let Some(avx2) = super::avx2::Avx2::detected() {
        let fast = resized::<_, CHANNELS>(avx2, &samples, size, new_size);
        prop_assert_eq!(fast, plain);
    }
    Ok(())
}

#[cfg(target_arch = "x86_64")]
proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn a_processor_with_other_vectors_gives_the_same_image(
        (size, new_size) in sizes(90, 70),
        seed in any::<u64>(),
    ) {
        both_ways::<3>(size, new_size, seed)?;
        both_ways::<1>(size, new_size, seed)?;
    }

    #[test]
    fn so_it_does_where_most_of_the_image_is_lost(
        (size, new_size) in sizes(600, 4),
        seed in any::<u64>(),
    ) {
        both_ways::<3>(size, new_size, seed)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn an_image_of_one_colour_keeps_it((size, new_size) in sizes(300, 40), colour in any::<[u8; 3]>()) {
        let samples = colour.repeat(size.height * size.width);
        let out = resized::<_, 3>(Plain, &samples, size, new_size);
        for row in out.chunks_exact(new_size.width * 3 + MARGIN) {
            for pixel in row[..new_size.width * 3].chunks_exact(3) {
                prop_assert_eq!(pixel, colour);
            }
        }
    }

    #[test]
    fn no_sample_is_more_than_a_level_from_the_exact_sum(
        (size, new_size) in sizes(200, 30),
        seed in any::<u64>(),
    ) {
        let samples = noise(size.height * size.width, seed);
        let out = resized::<_, 1>(Plain, &samples, size, new_size);
        let columns = Weights::shares(size.width, new_size.width);
        let rows = Weights::shares(size.height, new_size.height);
        for y in 0..new_size.height {
            let (top, row_shares) = rows.window(y);
            for x in 0..new_size.width {
                let (left, column_shares) = columns.window(x);
                let mut sum = 0.0;
                for (old_y, row_share) in (top..size.height).zip(row_shares) {
                    for (old_x, column_share) in (left..size.width).zip(column_shares) {
                        let sample = samples[old_y * size.width + old_x];
                        sum += row_share * column_share * f64::from(sample);
                    }
                }
                let level = f64::from(out[y * (new_size.width + MARGIN) + x]);
                // half a level for each pass, and a little for weights of 16 bits
                prop_assert!((level - sum).abs() < 1.05, "{level} for {sum} at {y}, {x}");
            }
        }
    }
}

#[test]
fn an_image_of_half_the_size_is_the_triangle_of_each_four_samples() {
    // weights of 1, 3, 3 and 1 eighths; at the edges one is missing, and the others are sevenths
    let size = Size {
        height: 1,
        width: 6,
    };
    let half = Size {
        height: 1,
        width: 3,
    };
    let out = resized::<_, 1>(Plain, &[0, 80, 160, 240, 0, 80], size, half);
    assert_eq!(out[..3], [57, 160, 69]);
}
