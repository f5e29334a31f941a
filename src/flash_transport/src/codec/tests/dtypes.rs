//! Which dtypes are accepted.

use super::*;

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
