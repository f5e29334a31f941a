//! The encoding of each value: openpi's bytes, in the shortest form, and other forms that decode
//! alike.

use super::*;

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
