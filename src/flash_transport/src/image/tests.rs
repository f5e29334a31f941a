use proptest::prelude::*;

use super::*;

fn hwc(height: usize, width: usize) -> ImageShape {
    ImageShape::of(&[height, width, 3]).unwrap()
}

fn resized(pixels: &[u8], image: ImageShape, target: ImageShape) -> Vec<u8> {
    let mut out = vec![0; target.len()];
    resize_with_pad(pixels, image, &mut out, target).unwrap();
    out
}

#[test]
fn the_last_size_decides_the_layout_before_the_first() {
    for (shape, layout) in [
        ([4, 5, 3], Layout::Hwc),
        ([3, 4, 5], Layout::Chw),
        ([3, 4, 3], Layout::Hwc),
    ] {
        let image = ImageShape::of(&shape).unwrap();
        assert_eq!((image.layout, image.dims()), (layout, shape));
        assert_eq!(image.len(), shape.iter().product::<usize>());
    }
}

#[test]
fn sizes_before_the_last_three_do_not_count() {
    assert_eq!(ImageShape::of(&[7, 2, 4, 5, 3]), Ok(hwc(4, 5)));
    let planes = ImageShape::of(&[2, 3, 4, 5]).unwrap();
    assert_eq!((planes.layout, planes.dims()), (Layout::Chw, [3, 4, 5]));
}

#[test]
fn other_shapes_are_refused() {
    for shape in [&[4, 5][..], &[4, 5, 4], &[4, 5, 3, 4], &[4, 3, 5], &[]] {
        let shape = shape.to_vec();
        assert_eq!(
            ImageShape::of(&shape).unwrap_err(),
            ImageError::NotRgb { shape }
        );
    }
    for (height, width) in [(0, 5), (5, 0), (5, 70_000)] {
        let size = ImageError::Size { height, width };
        assert_eq!(ImageShape::of(&[height, width, 3]).unwrap_err(), size);
        assert_eq!(hwc(5, 5).with_size(height, width).unwrap_err(), size);
    }
}

#[test]
fn the_place_in_the_target_is_openpis() {
    // rounding instead of cutting off gives 127 rows from 48 for 848x480, and 168 for 1288x964
    for ((height, width), (top, left, rows, columns)) in [
        ((480, 640), (28, 0, 168, 224)),
        ((480, 848), (49, 0, 126, 224)),
        ((240, 424), (49, 0, 126, 224)),
        ((720, 1280), (49, 0, 126, 224)),
        ((964, 1288), (28, 0, 167, 224)),
        ((640, 480), (0, 28, 224, 168)),
        ((3, 5), (45, 0, 134, 224)),
    ] {
        let fit = Fit::of(hwc(height, width), hwc(224, 224)).unwrap();
        let expected = Fit {
            top,
            left,
            height: rows,
            width: columns,
        };
        assert_eq!(fit, expected, "{width}x{height}");
    }
}

#[test]
fn an_image_of_which_nothing_is_left_is_refused() {
    let error = Fit::of(hwc(3, 500), hwc(37, 91)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "image of 3 rows by 500 columns is too thin to fit into 37 by 91: \
         not one pixel is left of its short side"
    );
}

#[test]
fn the_fit_lies_inside_every_target() {
    for height in 1..40 {
        for width in 1..40 {
            for target in [hwc(7, 23), hwc(23, 7), hwc(31, 31)] {
                let Ok(fit) = Fit::of(hwc(height, width), target) else {
                    continue;
                };
                assert!(fit.top + fit.height <= target.height, "{height} {width}");
                assert!(fit.left + fit.width <= target.width, "{height} {width}");
                // h / (h / H) may be slightly below H, and is truncated
                assert!(fit.height + 1 >= target.height || fit.width + 1 >= target.width);
            }
        }
    }
}

#[test]
fn an_image_of_the_right_size_is_the_same_afterwards() {
    let pixels: Vec<u8> = (0..75).collect();
    assert_eq!(resized(&pixels, hwc(5, 5), hwc(5, 5)), pixels);
}

#[test]
fn both_layouts_give_the_same_pixels() {
    let (image, target) = (hwc(48, 65), hwc(31, 29));
    let pixels: Vec<u8> = (0..image.len()).map(|i| (i * i / 7) as u8).collect();
    let planes: Vec<u8> = (0..3)
        .flat_map(|colour| pixels.iter().skip(colour).step_by(3).copied())
        .collect();
    let expected = resized(&pixels, image, target);
    let chw = |shape: ImageShape| ImageShape::of(&[3, shape.height, shape.width]).unwrap();
    let out = resized(&planes, chw(image), chw(target));
    let area = target.height * target.width;
    for (index, pixel) in expected.chunks_exact(3).enumerate() {
        assert_eq!(
            pixel,
            [out[index], out[area + index], out[2 * area + index]]
        );
    }
}

#[test]
fn the_border_is_black_and_the_middle_keeps_its_colour() {
    let out = resized(&[200; 4 * 8 * 3], hwc(4, 8), hwc(16, 16));
    for (row, pixels) in out.chunks_exact(16 * 3).enumerate() {
        let expected = if (4..12).contains(&row) { 200 } else { 0 };
        assert!(pixels.iter().all(|value| *value == expected), "row {row}");
    }
}

#[test]
fn floats_are_padded_and_clipped_as_openpi_does() {
    let mut out = vec![9.0; hwc(16, 16).len()];
    let bright = vec![1.5_f32; hwc(4, 8).len()];
    resize_with_pad(&bright, hwc(4, 8), &mut out, hwc(16, 16)).unwrap();
    for (row, samples) in out.chunks_exact(16 * 3).enumerate() {
        let expected = if (4..12).contains(&row) { 1.0 } else { -1.0 };
        assert!(
            samples.iter().all(|sample| *sample == expected),
            "row {row}"
        );
    }
}

#[test]
fn a_thread_may_resize_images_of_many_sizes_in_turn() {
    let first = resized(&[9; 30 * 20 * 3], hwc(30, 20), hwc(8, 8));
    resized(&[7; 90 * 50 * 3], hwc(90, 50), hwc(64, 32));
    assert_eq!(resized(&[9; 30 * 20 * 3], hwc(30, 20), hwc(8, 8)), first);
}

/// Two rows of two pixels in each encoding: red, green; blue, grey.
const SAMPLES: [(&str, [&[u8]; 2]); 4] = [
    ("rgb8", [&[255, 0, 0, 0, 255, 0], &[0, 0, 255, 80, 80, 80]]),
    ("bgr8", [&[0, 0, 255, 0, 255, 0], &[255, 0, 0, 80, 80, 80]]),
    (
        "rgba8",
        [
            &[255, 0, 0, 1, 0, 255, 0, 2],
            &[0, 0, 255, 3, 80, 80, 80, 4],
        ],
    ),
    (
        "bgra8",
        [
            &[0, 0, 255, 1, 0, 255, 0, 2],
            &[255, 0, 0, 3, 80, 80, 80, 4],
        ],
    ),
];

fn info(encoding: &str, step: usize) -> FrameInfo<'_> {
    FrameInfo {
        encoding,
        height: 2,
        width: 2,
        step: step as u32,
        big_endian: false,
    }
}

fn rgb(frame: &Frame<'_>) -> Vec<u8> {
    let mut out = vec![0; frame.rgb_shape().iter().product()];
    frame.write_rgb(&mut out);
    out
}

#[test]
fn every_encoding_gives_the_same_rgb_with_and_without_padding() {
    for (encoding, rows) in SAMPLES {
        for padding in [0, 1, 5] {
            let step = rows[0].len() + padding;
            let mut data = Vec::new();
            for row in rows {
                data.extend(row);
                data.extend(vec![99; padding]);
            }
            for end in [data.len(), data.len() - padding] {
                let frame = Frame::new(&data[..end], info(encoding, step)).unwrap();
                assert_eq!(frame.rgb_shape(), [2, 2, 3]);
                assert_eq!(
                    rgb(&frame),
                    [255, 0, 0, 0, 255, 0, 0, 0, 255, 80, 80, 80],
                    "{encoding}, step {step}"
                );
            }
        }
    }
}

#[test]
fn grey_becomes_three_equal_colours() {
    let frame = Frame::new(&[1, 2, 9, 3, 4, 9], info("mono8", 3)).unwrap();
    assert_eq!(rgb(&frame), [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]);
}

#[test]
fn bytes_after_the_last_row_are_ignored() {
    let frame = Frame::new(&[1, 2, 3, 4, 5, 6, 7], info("mono8", 2)).unwrap();
    assert_eq!(rgb(&frame), [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]);
}

#[test]
fn frames_that_lie_about_their_data_are_refused_with_the_numbers() {
    let message = |data: &[u8], info| Frame::new(data, info).unwrap_err().to_string();
    assert_eq!(
        message(&[0; 11], info("rgb8", 6)),
        "image has 11 bytes of data, expected at least 12 for 2 rows of step 6 in rgb8"
    );
    assert_eq!(
        message(&[0; 100], info("rgb8", 5)),
        "image step is 5 bytes, expected at least 6 for 2 columns of rgb8"
    );
    assert_eq!(
        message(&[0; 5], info("nv12", 2)),
        "image has 5 bytes of data, expected at least 6 for 3 rows of step 2 in nv12"
    );
    let unknown = message(&[0; 100], info("32FC1", 8));
    let expected = "image encoding \"32FC1\" is not supported, expected one of rgb8, bgr8, ";
    assert!(unknown.starts_with(expected), "{unknown}");
    for (height, width) in [(0, 2), (2, 0), (u32::MAX, 2), (2, u32::MAX)] {
        let info = FrameInfo {
            height,
            width,
            ..info("mono8", 2)
        };
        assert!(matches!(
            Frame::new(&[0; 100], info),
            Err(ImageError::Size { .. })
        ));
    }
    let endless = FrameInfo {
        step: u32::MAX,
        ..info("mono8", 2)
    };
    assert!(matches!(
        Frame::new(&[0; 100], endless),
        Err(ImageError::ShortData { .. })
    ));
}

/// Every encoding, sizes from 1 by 1 on, every padding and both byte orders.
fn frames() -> impl Strategy<Value = (&'static str, u32, u32, u32, bool, u64)> {
    let names: Vec<_> = encodings().collect();
    (
        proptest::sample::select(names),
        1..20_u32,
        1..150_u32,
        0..9_u32,
        any::<bool>(),
        any::<u64>(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_processor_with_other_vectors_gives_the_same_image(
        (encoding, height, width, padding, big_endian, seed) in frames()
    ) {
        // more than any encoding needs
        let mut state = seed | 1;
        let data: Vec<u8> = (0..(width + padding) * 8 * height * 3)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 56) as u8
            })
            .collect();
        let info = FrameInfo { encoding, height, width, step: width * 8 + padding, big_endian };
        let frame = Frame::new(&data, info).unwrap();
        let mut plain = vec![0; frame.rgb_shape().iter().product()];
        frame.write_rgb_without_vectors(&mut plain);
        prop_assert_eq!(rgb(&frame), plain);
    }

    #[test]
    fn no_frame_reads_beyond_its_data(
        (encoding, height, width, padding, big_endian, seed) in frames()
    ) {
        // exactly as much data as is asked for, and one byte less
        let mut info = FrameInfo { encoding, height, width, step: 0, big_endian };
        let Err(ImageError::ShortStep { expected, .. }) = Frame::new(&[], info) else {
            return Err(TestCaseError::fail("a step of 0 was taken"));
        };
        info.step = expected as u32 + padding;
        let Err(ImageError::ShortData { expected, .. }) = Frame::new(&[], info) else {
            return Err(TestCaseError::fail("no data was taken"));
        };
        let data = vec![seed as u8; expected as usize];
        rgb(&Frame::new(&data, info).unwrap());
        prop_assert!(Frame::new(&data[1..], info).is_err());
    }

    #[test]
    fn foreign_bytes_are_decoded_or_refused(
        mut data in proptest::collection::vec(any::<u8>(), 0..600),
        start in proptest::sample::select(vec![&[0xff, 0xd8][..], b"\x89PNG\r\n\x1a\n", b""]),
        at_least in proptest::option::of((1..50_usize, 1..50_usize)),
    ) {
        data.splice(0..0, start.iter().copied());
        data.extend([0xff, 0xd9]);
        if let Ok(image) = decode_image(&data, at_least, 1 << 20) {
            prop_assert_eq!(image.pixels.len(), image.height * image.width * 3);
        }
    }

    #[test]
    fn a_damaged_jpeg_is_decoded_to_its_size_or_refused(
        (height, width) in (1..40_usize, 1..40_usize),
        quality in 1..=100_u8,
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let pixels: Vec<u8> = (0..hwc(height, width).len()).map(|i| (i * i / 7) as u8).collect();
        let mut data = encode_jpeg(&pixels, hwc(height, width), quality).unwrap();
        let whole = decode_image(&data, None, 1 << 20).unwrap();
        prop_assert_eq!((whole.height, whole.width), (height, width));
        *at.get_mut(&mut data) = byte;
        for at_least in [None, Some((height.div_ceil(4), width.div_ceil(4)))] {
            if let Ok(image) = decode_image(&data, at_least, 1 << 20) {
                prop_assert_eq!(image.pixels.len(), image.height * image.width * 3);
            }
        }
    }
}
