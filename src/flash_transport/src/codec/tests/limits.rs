//! What one message may cost: memory, values, stack and time.

use super::*;

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
fn too_many_maps_and_lists_are_refused() {
    let limits = Limits {
        containers: 4,
        ..Limits::DEFAULT
    };
    // a list, and within it maps, lists or arrays
    assert!(Value::decode(&bytes("93809080"), limits).is_ok());
    let error = CodecError::LengthOverLimit {
        what: "maps, lists and arrays",
        length: 5,
        limit: 4,
    };
    assert_eq!(Value::decode(&bytes("9480908090"), limits), Err(error));
}

#[test]
fn skipped_entries_count_as_values() {
    // {__ndarray__: true, data: <list of 9>}: the walk skips what it does not need
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
        // far more than any stack holds
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
    let limits = Limits {
        values: usize::MAX,
        containers: usize::MAX,
        ..Limits::DEFAULT
    };
    let refused = Value::decode(&bytes(&message), limits).unwrap_err();
    assert!(matches!(refused, CodecError::Truncated { .. }));
}

#[test]
fn markers_at_the_end_of_nested_maps_do_not_multiply_the_work() {
    // each level is read once for its entries and again when its marker turns up: 2^60 steps if
    // that nested
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
