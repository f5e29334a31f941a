use proptest::prelude::*;

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] << 4 | pair[1]) as u8)
        .collect()
}

fn decoded(hex: &str) -> Result<Value, CodecError> {
    Value::decode(&bytes(hex), Limits::DEFAULT)
}

fn refused(hex: &str) -> CodecError {
    decoded(hex).expect_err("a refusal")
}

fn array(dtype: &str, shape: &[usize], data: &[u8]) -> Value {
    Value::Array(ArrayValue {
        dtype: dtype.into(),
        shape: shape.to_vec(),
        data: data.to_vec(),
    })
}

fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Map(entries.map(|(key, value)| (key.into(), value)).to_vec())
}

fn list(length: usize, value: Value) -> Value {
    Value::List(vec![value; length])
}

/// What openpi's packer writes for `np.arange(3, dtype="f4")` and `np.float32(1.5)`.
const ARANGE: &str = "84 c40b 5f5f6e6461727261795f5f c3 c404 64617461 c40c 000000000000803f00000040
                      c405 6474797065 a3 3c6634 c405 7368617065 91 03";
const SCALAR: &str =
    "83 c40d 5f5f6e7067656e657269635f5f c3 c404 64617461 cb3ff8000000000000 c405 6474797065 a3 3c6634";

#[test]
fn an_array_is_the_same_bytes_as_openpis() {
    let data: Vec<u8> = [0f32, 1.0, 2.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let value = array("<f4", &[3], &data);
    assert_eq!(value.encode().unwrap(), bytes(ARANGE));
    assert_eq!(decoded(ARANGE).unwrap(), value);
}

#[test]
fn a_numpy_scalar_is_the_same_bytes_as_openpis() {
    let value = Value::Scalar {
        dtype: "<f4".into(),
        data: Box::new(Value::Float(1.5)),
    };
    assert_eq!(value.encode().unwrap(), bytes(SCALAR));
    assert_eq!(decoded(SCALAR).unwrap(), value);
}

#[test]
fn every_value_takes_its_shortest_form() {
    let text = |length| Value::Text("x".repeat(length));
    let blob = |length| Value::Bytes(vec![0; length]);
    let entries = |length: usize| {
        Value::Map(
            (0..length)
                .map(|i| (format!("{i}").as_str().into(), Value::Nil))
                .collect(),
        )
    };
    let cases: &[(Value, &str)] = &[
        (Value::Nil, "c0"),
        (Value::Bool(false), "c2"),
        (Value::Bool(true), "c3"),
        (Value::from(0), "00"),
        (Value::from(0x7f), "7f"),
        (Value::from(0x80), "cc80"),
        (Value::from(0xff), "ccff"),
        (Value::from(0x100), "cd0100"),
        (Value::from(0xffff), "cdffff"),
        (Value::from(0x1_0000), "ce00010000"),
        (Value::from(0xffff_ffff), "ceffffffff"),
        (Value::from(0x1_0000_0000), "cf0000000100000000"),
        (Value::Unsigned(u64::MAX), "cfffffffffffffffff"),
        (Value::from(-1), "ff"),
        (Value::from(-0x20), "e0"),
        (Value::from(-0x21), "d0df"),
        (Value::from(-0x80), "d080"),
        (Value::from(-0x81), "d1ff7f"),
        (Value::from(-0x8000), "d18000"),
        (Value::from(-0x8001), "d2ffff7fff"),
        (Value::from(-0x8000_0000), "d280000000"),
        (Value::from(-0x8000_0001), "d3ffffffff7fffffff"),
        (Value::from(i64::MIN), "d38000000000000000"),
        (Value::Float(1.5), "cb3ff8000000000000"),
        (text(0), "a0"),
        (text(0x1f), "bf"),
        (text(0x20), "d920"),
        (text(0xff), "d9ff"),
        (text(0x100), "da0100"),
        (text(0xffff), "daffff"),
        (text(0x1_0000), "db00010000"),
        (blob(0), "c400"),
        (blob(0xff), "c4ff"),
        (blob(0x100), "c50100"),
        (blob(0xffff), "c5ffff"),
        (blob(0x1_0000), "c600010000"),
        (list(0, Value::Nil), "90"),
        (list(0x0f, Value::Nil), "9f"),
        (list(0x10, Value::Nil), "dc0010"),
        (list(0xffff, Value::Nil), "dcffff"),
        (list(0x1_0000, Value::Nil), "dd00010000"),
        (entries(0), "80"),
        (entries(0x0f), "8f"),
        (entries(0x10), "de0010"),
        (entries(0xffff), "deffff"),
        (entries(0x1_0000), "df00010000"),
    ];
    for (value, start) in cases {
        let message = value.encode().unwrap();
        assert!(
            message.starts_with(&bytes(start)),
            "{:x?}, not {start}",
            &message[..message.len().min(9)]
        );
        assert_eq!(&Value::decode(&message, Limits::DEFAULT).unwrap(), value);
    }
}

#[test]
fn longer_forms_of_a_value_decode_to_the_same() {
    for (long, short) in [
        ("cc01", "01"),
        ("cd0001", "01"),
        ("ce00000001", "01"),
        ("cf0000000000000001", "01"),
        ("d001", "01"),
        ("d10001", "01"),
        ("d200000001", "01"),
        ("d30000000000000001", "01"),
        ("d1ffff", "ff"),
        ("ca3fc00000", "cb3ff8000000000000"),
        ("d90161", "a161"),
        ("da000161", "a161"),
        ("db0000000161", "a161"),
        ("c5000161", "c40161"),
        ("dc0000", "90"),
        ("dd00000000", "90"),
        ("de0000", "80"),
        ("df00000000", "80"),
    ] {
        assert_eq!(
            decoded(long).unwrap(),
            decoded(short).unwrap(),
            "{long} {short}"
        );
    }
}

#[test]
fn array_maps_may_have_text_keys() {
    let mut writer = Writer::default();
    writer.map_header(4).unwrap();
    writer.text("__ndarray__").unwrap();
    writer.bool(true);
    writer.text("data").unwrap();
    writer.bytes(&[7, 8]).unwrap();
    writer.text("dtype").unwrap();
    writer.text("|u1").unwrap();
    writer.text("shape").unwrap();
    writer.list_header(1).unwrap();
    writer.unsigned(2);
    assert_eq!(
        Value::decode(&writer.into_bytes(), Limits::DEFAULT).unwrap(),
        array("|u1", &[2], &[7, 8])
    );
}

#[test]
fn array_maps_may_be_in_any_order_and_hold_more() {
    let mut writer = Writer::default();
    writer.map_header(5).unwrap();
    writer.text("unit").unwrap();
    writer.list_header(1).unwrap();
    writer.map_header(0).unwrap();
    writer.bytes(SHAPE_KEY).unwrap();
    writer.list_header(0).unwrap();
    writer.bytes(DATA_KEY).unwrap();
    writer.bytes(&[7]).unwrap();
    writer.bytes(DTYPE_KEY).unwrap();
    writer.text("|u1").unwrap();
    writer.bytes(NDARRAY_KEY).unwrap();
    writer.nil();
    assert_eq!(
        Value::decode(&writer.into_bytes(), Limits::DEFAULT).unwrap(),
        array("|u1", &[], &[7])
    );
}

#[test]
fn the_last_of_equal_keys_holds() {
    let value = decoded("82 a161 01 c40161 02").unwrap();
    assert_eq!(value.get("a"), Some(&Value::Unsigned(2)));
    assert_eq!(value.get("b"), None);
    assert_eq!(Value::Nil.get("a"), None);
}

#[test]
fn a_message_that_is_cut_off_is_refused_at_every_length() {
    let whole = map([
        ("image", array("|u1", &[2, 2, 3], &[1; 12])),
        ("state", list(20, Value::Float(0.5))),
        (
            "prompt",
            Value::Text("a prompt of more than 31 characters".into()),
        ),
        ("blob", Value::Bytes(vec![1; 300])),
        ("count", Value::Unsigned(u64::MAX)),
    ])
    .encode()
    .unwrap();
    for length in 0..whole.len() {
        let error = Value::decode(&whole[..length], Limits::DEFAULT).expect_err("a refusal");
        assert!(
            matches!(error, CodecError::Truncated { .. }),
            "{length}: {error}"
        );
    }
}

#[test]
fn a_length_beyond_the_message_is_refused_before_anything_is_made() {
    for hex in [
        "dbffffffff",
        "c6ffffffff",
        "ddffffffff",
        "dfffffffff",
        "dd00000002c0",
        "8200",
    ] {
        let error = refused(hex);
        assert!(
            matches!(error, CodecError::Truncated { .. }),
            "{hex}: {error}"
        );
    }
}

#[test]
fn too_many_values_are_refused() {
    let limits = Limits {
        values: 10,
        ..Limits::DEFAULT
    };
    let few = list(9, Value::Nil).encode().unwrap();
    assert!(Value::decode(&few, limits).is_ok());
    let error = CodecError::LengthOverLimit {
        what: "values",
        length: 11,
        limit: 10,
    };
    let many = list(10, Value::Nil).encode().unwrap();
    assert_eq!(Value::decode(&many, limits), Err(error.clone()));
    let spread = list(2, list(4, Value::Nil)).encode().unwrap();
    assert_eq!(Value::decode(&spread, limits), Err(error));
}

#[test]
fn skipped_entries_count_as_values() {
    // {__ndarray__: true, data: <list of 9>}: the walk passes over what it does not need
    let limits = Limits {
        values: 10,
        ..Limits::DEFAULT
    };
    let mut writer = Writer::default();
    writer.map_header(2).unwrap();
    writer.bytes(NDARRAY_KEY).unwrap();
    writer.bool(true);
    writer.text("x").unwrap();
    list(9, Value::Nil).write(&mut writer).unwrap();
    let message = writer.into_bytes();
    assert!(matches!(
        Value::decode(&message, limits),
        Err(CodecError::LengthOverLimit { .. })
    ));
}

#[test]
fn too_large_a_message_is_refused() {
    let limits = Limits {
        bytes: 4,
        ..Limits::DEFAULT
    };
    assert!(Value::decode(&bytes("a3616263"), limits).is_ok());
    assert_eq!(
        Value::decode(&bytes("a461626364"), limits),
        Err(CodecError::LengthOverLimit {
            what: "bytes",
            length: 5,
            limit: 4
        })
    );
}

#[test]
fn nesting_is_refused_beyond_its_limit_whatever_nests() {
    let depth = Limits::DEFAULT.depth;
    for (open, innermost) in [("91", "90"), ("81a0", "80")] {
        let nested = |levels| open.repeat(levels - 1) + innermost;
        assert!(decoded(&nested(depth)).is_ok());
        assert_eq!(
            refused(&nested(depth + 1)),
            CodecError::NestingOverLimit { limit: depth }
        );
        // far more than any stack could bear
        assert_eq!(
            refused(&nested(400_000)),
            CodecError::NestingOverLimit { limit: depth }
        );
    }
}

#[test]
fn deep_values_that_are_passed_over_need_no_stack() {
    let message = format!(
        "82 c40b5f5f6e6461727261795f5f {}90 a0",
        "91".repeat(400_000)
    );
    assert!(matches!(refused(&message), CodecError::Truncated { .. }));
}

#[test]
fn markers_at_the_end_of_nested_maps_do_not_multiply_the_work() {
    // each level is walked once for its entries and once more when its marker turns up: 2^60 steps if that nested
    let mut message = Vec::new();
    let levels = 60;
    for _ in 0..levels {
        message.extend(bytes("82 a178"));
    }
    message.push(0xc0);
    for _ in 0..levels {
        message.extend(bytes("c40b5f5f6e6461727261795f5f c3"));
    }
    assert!(matches!(
        Value::decode(&message, Limits::DEFAULT),
        Err(CodecError::MalformedArray { .. })
    ));
}

#[test]
fn broken_text_is_refused() {
    assert_eq!(refused("91a2c328"), CodecError::InvalidUtf8 { at: 1 });
    // a lone surrogate
    assert_eq!(refused("a3eda080"), CodecError::InvalidUtf8 { at: 0 });
}

#[test]
fn extensions_are_refused() {
    for (hex, kind) in [
        ("d4ff00", -1),
        ("d5010000", 1),
        ("d60200000000", 2),
        ("d7030000000000000000", 3),
        ("d80400000000000000000000000000000000", 4),
        ("c701ff00", -1),
        ("c80001ff00", -1),
        ("c900000001ff00", -1),
    ] {
        assert_eq!(
            refused(hex),
            CodecError::UnsupportedExtension { at: 0, kind }
        );
    }
}

#[test]
fn the_byte_that_means_nothing_is_refused() {
    assert_eq!(refused("91c1"), CodecError::ReservedByte { at: 1 });
}

#[test]
fn keys_other_than_text_and_bytes_are_refused() {
    for (hex, got) in [
        ("8101c0", "an integer"),
        ("81ffc0", "an integer"),
        ("81c0c0", "nil"),
        ("81c3c0", "a bool"),
        ("81cb3ff8000000000000c0", "a float"),
        ("8190c0", "a list"),
        ("8180c0", "a map"),
    ] {
        assert_eq!(refused(hex), CodecError::NonStringKey { at: 1, got });
    }
}

#[test]
fn bytes_after_the_message_are_refused() {
    assert_eq!(
        refused("c0c0c0"),
        CodecError::TrailingBytes { at: 1, count: 2 }
    );
}

/// An array's map with its parts as given.
fn array_message(data: &Value, dtype: &Value, shape: &Value) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.map_header(4).unwrap();
    writer.bytes(NDARRAY_KEY).unwrap();
    writer.bool(true);
    for (key, value) in [(DATA_KEY, data), (DTYPE_KEY, dtype), (SHAPE_KEY, shape)] {
        writer.bytes(key).unwrap();
        value.write(&mut writer).unwrap();
    }
    writer.into_bytes()
}

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
fn dtypes_of_every_kind_that_may_travel_are_known() {
    for (text, kind, item_size) in [
        ("|b1", Kind::Bool, 1),
        ("|i1", Kind::Int, 1),
        (">i8", Kind::Int, 8),
        ("=i4", Kind::Int, 4),
        ("u2", Kind::Uint, 2),
        ("<f2", Kind::Float, 2),
        (">f8", Kind::Float, 8),
        ("<f16", Kind::Float, 16),
        ("<U5", Kind::Text, 20),
        (">U0", Kind::Text, 0),
        ("|S12", Kind::Bytes, 12),
        ("<M8", Kind::Datetime, 8),
        (">M8[ns]", Kind::Datetime, 8),
        ("<m8[25us]", Kind::Timedelta, 8),
    ] {
        let dtype = Dtype::parse(text).unwrap();
        assert_eq!(
            (dtype.as_str(), dtype.kind(), dtype.item_size()),
            (text, kind, item_size)
        );
    }
    assert_eq!(Dtype::parse("float32").unwrap().as_str(), "<f4");
}

#[test]
fn other_dtypes_are_refused() {
    for text in [
        "",
        "<",
        "|O",
        "|O8",
        "|V2",
        "<c8",
        "<f3",
        "<f4 ",
        "<f+4",
        "<<f4",
        "|b2",
        "<i16",
        "<U",
        "<U-1",
        "<U600000000",
        "|S3000000000",
        "|S99999999999999999999",
        "<M4",
        "<M8[",
        "<M8[]",
        "<M8[5]",
        "<M8[hour]",
        "<M8[1000000000000s]",
        "é4",
        "(2,2)<f4",
        "f4,i4",
    ] {
        let dtype = text.to_owned();
        assert_eq!(
            Dtype::parse(text).expect_err(text),
            CodecError::UnknownDtype { dtype }
        );
    }
}

#[test]
fn a_long_foreign_dtype_is_cut_in_the_message() {
    let error = Dtype::parse(&"x".repeat(10_000)).expect_err("a refusal");
    assert!(error.to_string().len() < 200);
}

#[test]
fn a_tree_that_decode_would_refuse_is_not_encoded() {
    assert!(array("<f4", &[2], &[0; 4]).encode().is_err());
    assert!(array("|O", &[1], &[0; 8]).encode().is_err());
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![".{0,40}", "[a-z/]{250,260}"]
}

fn key() -> impl Strategy<Value = ValueKey> {
    let is_plain = |name: &[u8]| name != NDARRAY_KEY && name != NPGENERIC_KEY;
    prop_oneof![
        text().prop_map(ValueKey::Text),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(ValueKey::Bytes),
    ]
    .prop_filter("an array's marker", move |key| {
        is_plain(key.as_key().as_bytes())
    })
}

fn array_value() -> impl Strategy<Value = Value> {
    let dtype = prop::sample::select(vec!["|u1", "<f4", ">i8", "|b1", "<U2", "<M8[ns]"]);
    (dtype, prop::collection::vec(0usize..5, 0..4)).prop_flat_map(|(dtype, shape)| {
        let length = shape.iter().product::<usize>() * Dtype::parse(dtype).unwrap().item_size();
        prop::collection::vec(any::<u8>(), length).prop_map(move |data| array(dtype, &shape, &data))
    })
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::Unsigned),
        any::<f64>().prop_map(Value::Float),
        text().prop_map(Value::Text),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Value::Bytes),
        array_value(),
        any::<f64>().prop_map(|data| Value::Scalar {
            dtype: "<f8".into(),
            data: Box::new(Value::Float(data)),
        }),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Value::List),
            prop::collection::vec((key(), inner), 0..20).prop_map(Value::Map),
        ]
    })
}

proptest! {
    #[test]
    fn what_was_encoded_decodes_to_the_same(value in value()) {
        let message = value.encode().unwrap();
        let again = Value::decode(&message, Limits::DEFAULT).unwrap();
        // bytes, not values: NaN differs from itself
        prop_assert_eq!(again.encode().unwrap(), message);
        prop_assert_eq!(format!("{again:?}"), format!("{value:?}"));
    }

    #[test]
    fn any_bytes_are_accepted_or_refused(message in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(value) = Value::decode(&message, Limits::DEFAULT) {
            value.encode().unwrap();
        }
    }

    #[test]
    fn a_damaged_message_is_accepted_or_refused(
        value in value(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut message = value.encode().unwrap();
        for (index, byte) in damage {
            let index = index.index(message.len());
            message[index] = byte;
        }
        let _ = Value::decode(&message, Limits::DEFAULT);
    }

    #[test]
    fn an_array_with_damaged_parts_is_accepted_or_refused(
        data in value(), dtype in "[<>|=]?[a-zA-Z][0-9]{0,11}(\\[[0-9]{0,3}[a-zA-Z]{1,2}\\])?", shape in value(),
    ) {
        let _ = Value::decode(&array_message(&data, &Value::Text(dtype), &shape), Limits::DEFAULT);
    }
}
