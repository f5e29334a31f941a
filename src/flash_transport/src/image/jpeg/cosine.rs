//! The 8-point DCT of Loeffler, Ligtenberg and Moschytz (Practical fast 1-D DCT algorithms with 11
//! multiplications, ICASSP 1989), for scalars and vectors.

/// Integers of 16 bits; sums wrap.
pub(super) trait Numbers {
    /// One number, or several side by side.
    type Row: Copy;

    fn sum(one: Self::Row, other: Self::Row) -> Self::Row;
    fn difference(one: Self::Row, other: Self::Row) -> Self::Row;
    /// Signed numbers times `factor` / 2^15, to the nearest.
    fn product(row: Self::Row, factor: i16) -> Self::Row;
}

/// The DCT of each column, times the square root of 8.
#[inline(always)]
pub(super) fn transformed<A: Numbers>(
    [r0, r1, r2, r3, r4, r5, r6, r7]: [A::Row; 8],
) -> [A::Row; 8] {
    // even frequencies depend on the sums of mirrored rows, odd ones on the differences
    let (s0, s1) = (A::sum(r0, r7), A::sum(r1, r6));
    let (s2, s3) = (A::sum(r2, r5), A::sum(r3, r4));
    let (d0, d1) = (A::difference(r0, r7), A::difference(r1, r6));
    let (d2, d3) = (A::difference(r2, r5), A::difference(r3, r4));

    let (near, far) = (A::sum(s0, s3), A::sum(s1, s2));
    let (outer, inner) = (A::difference(s0, s3), A::difference(s1, s2));

    let (a, b) = rotated::<A>(d0, d3, COS_3, SIN_3);
    let (c, d) = rotated::<A>(d1, d2, COS_1, SIN_1);
    let (with_d, with_c) = (A::sum(a, d), A::sum(b, c));
    [
        A::sum(near, far),
        A::sum(with_d, with_c),
        A::sum(
            more::<A>(outer, ROOT2_COS_2),
            A::product(inner, ROOT2_SIN_2),
        ),
        more::<A>(A::difference(a, d), ROOT2),
        A::difference(near, far),
        more::<A>(A::difference(b, c), ROOT2),
        A::difference(
            A::product(outer, ROOT2_SIN_2),
            more::<A>(inner, ROOT2_COS_2),
        ),
        A::difference(with_d, with_c),
    ]
}

#[inline(always)]
fn rotated<A: Numbers>(x: A::Row, y: A::Row, cos: i16, sin: i16) -> (A::Row, A::Row) {
    (
        A::difference(A::product(x, cos), A::product(y, sin)),
        A::sum(A::product(x, sin), A::product(y, cos)),
    )
}

/// The row times 1 + `factor` / 2^15.
#[inline(always)]
fn more<A: Numbers>(row: A::Row, factor: i16) -> A::Row {
    A::sum(row, A::product(row, factor))
}

// sines and cosines of n * pi / 16, in 2^-15
const COS_1: i16 = 32_138;
const SIN_1: i16 = 6_393;
const COS_3: i16 = 27_246;
const SIN_3: i16 = 18_205;
const ROOT2_SIN_2: i16 = 17_734;
// minus one, for `more`
const ROOT2_COS_2: i16 = 10_045;
const ROOT2: i16 = 13_573;
