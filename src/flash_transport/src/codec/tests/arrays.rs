//! Arrays and numpy scalars: parts that match, and parts that do not.

use super::*;

#[test]
fn arrays_whose_data_does_not_fit_their_shape_are_refused() {
    let huge = Value::Unsigned(1 << 62);
    for (length, shape) in [
        (11, vec![Value::from(3)]),
        (13, vec![Value::from(3)]),
        (0, vec![Value::from(1)]),
        (4, vec![Value::from(0)]),
        (0, vec![]),
        // 2^62 * 2^62 * 4 is 0 in 64 bits
        (0, vec![huge.clone(), huge.clone()]),
        (0, vec![huge.clone(), huge, Value::from(0)]),
    ] {
        let message = array_message(
            &Value::Bytes(vec![0; length]),
            &"<f4".into(),
            &Value::List(shape.clone()),
        );
        let error = Value::decode(&message, Limits::DEFAULT).expect_err("a refusal");
        assert!(
            matches!(error, CodecError::ShapeMismatch { got, .. } if got == length),
            "{shape:?}: {error}"
        );
    }
}

#[test]
fn malformed_arrays_are_refused_with_the_part_that_is_wrong() {
    let data = Value::Bytes(vec![0; 4]);
    let dtype = Value::from("<f4");
    let shape = list(1, Value::from(1));
    for (message, expected) in [
        (
            array_message(&"text".into(), &dtype, &shape),
            "data is not bytes",
        ),
        (
            array_message(&shape, &dtype, &shape),
            "data is neither bytes nor a number",
        ),
        (array_message(&data, &data, &shape), "dtype is not text"),
        (
            array_message(&data, &dtype, &Value::from(1)),
            "shape is not a list of sizes",
        ),
        (
            array_message(&data, &dtype, &list(1, Value::from(-1))),
            "shape is not a list of sizes",
        ),
        (
            array_message(&data, &dtype, &list(1, Value::Float(1.0))),
            "shape is not a list of sizes",
        ),
        (
            array_message(&data, &dtype, &list(1, Value::Unsigned(u64::MAX))),
            "shape is not a list of sizes",
        ),
        (
            array_message(&data, &dtype, &list(65, Value::from(1))),
            "shape is not a list of sizes",
        ),
        (bytes("81 c40b5f5f6e6461727261795f5f c3"), "data is missing"),
        (
            bytes("82 c40b5f5f6e6461727261795f5f c3 c40464617461 c400"),
            "dtype is missing",
        ),
        (
            bytes("83 c40b5f5f6e6461727261795f5f c3 c40464617461 c400 c4056474797065 a33c6634"),
            "shape is missing",
        ),
    ] {
        match Value::decode(&message, Limits::DEFAULT) {
            Err(CodecError::MalformedArray { reason, .. }) => assert_eq!(reason, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn a_scalar_that_is_not_of_its_dtype_is_refused() {
    // numpy.bytes_(10 ** 12) would allocate as many bytes
    for (dtype, data) in [
        ("|S1", Value::Unsigned(1_000_000_000_000)),
        ("<U1", Value::Unsigned(1)),
        ("|b1", Value::Unsigned(1)),
        ("<i4", Value::Float(1.0)),
        ("<u4", Value::from(-1)),
        ("|u1", Value::from(256)),
        ("|i1", Value::from(128)),
        ("|i1", Value::from(-129)),
        ("<i8", Value::Unsigned(1 << 63)),
        ("<f4", "1.5".into()),
        ("<f4", Value::Bool(true)),
        ("<M8[s]", Value::Float(1.0)),
    ] {
        let scalar = Value::Scalar {
            dtype: dtype.into(),
            data: Box::new(data),
        };
        let error = Value::decode(&scalar.encode().unwrap(), Limits::DEFAULT).expect_err(dtype);
        assert!(
            matches!(error, CodecError::MalformedArray { .. }),
            "{dtype}: {error}"
        );
    }
}

#[test]
fn the_ends_of_an_integer_dtypes_range_are_taken() {
    for (dtype, data) in [
        ("|u1", Value::from(255)),
        ("|i1", Value::from(127)),
        ("|i1", Value::from(-128)),
        ("<u4", Value::from(i64::from(u32::MAX))),
        ("<i4", Value::from(i64::from(i32::MIN))),
        ("<i8", Value::from(i64::MAX)),
        ("<i8", Value::from(i64::MIN)),
        ("<u8", Value::Unsigned(u64::MAX)),
    ] {
        let scalar = Value::Scalar {
            dtype: dtype.into(),
            data: Box::new(data),
        };
        let message = scalar.encode().unwrap();
        assert_eq!(Value::decode(&message, Limits::DEFAULT), Ok(scalar));
    }
}

#[test]
fn a_tree_that_decode_would_refuse_is_not_encoded() {
    assert!(array("<f4", &[2], &[0; 4]).encode().is_err());
    assert!(array("|O", &[1], &[0; 8]).encode().is_err());
}
