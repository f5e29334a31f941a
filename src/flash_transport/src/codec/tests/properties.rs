//! Properties of all values and of arbitrary bytes.

use proptest::prelude::*;

use super::*;

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
        // compares bytes and not values: NaN is not equal to itself
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
