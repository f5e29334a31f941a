//! Optimal Huffman codes within the limits of T.81: at most 16 bits, no code of all ones.

pub(super) struct HuffmanTable {
    /// Number of codes of each length, from 1 to 16 bits.
    counts: [u8; LONGEST],
    /// In the order of their codes.
    symbols: Vec<u8>,
    /// Code and its length in bits, by symbol.
    codes: [(u32, u32); 256],
}

impl HuffmanTable {
    pub fn new(occurrences: &[u32; 256]) -> Self {
        let mut symbols: Vec<_> = (0..=255_u8)
            .filter(|symbol| occurrences[usize::from(*symbol)] > 0)
            .collect();
        symbols.sort_by_key(|symbol| std::cmp::Reverse(occurrences[usize::from(*symbol)]));
        let mut weights: Vec<u64> = symbols
            .iter()
            .map(|symbol| u64::from(occurrences[usize::from(*symbol)]))
            .collect();
        // the rarest symbol gets the code of all ones: a placeholder that is removed again
        weights.push(0);
        let counts = limited(lengths(&weights));
        let mut codes = [(0, 0); 256];
        let mut ranked = symbols.iter();
        let mut code = 0;
        for (length, count) in (1..).zip(counts) {
            for symbol in ranked.by_ref().take(usize::from(count)) {
                codes[usize::from(*symbol)] = (code, length);
                code += 1;
            }
            code <<= 1;
        }
        Self {
            counts,
            symbols,
            codes,
        }
    }

    pub fn counts(&self) -> &[u8; LONGEST] {
        &self.counts
    }

    pub fn symbols(&self) -> &[u8] {
        &self.symbols
    }

    /// Code and its length in bits.
    #[inline(always)]
    pub fn code(&self, symbol: u8) -> (u32, u32) {
        self.codes[usize::from(symbol)]
    }
}

/// Number of codes of each length, for weights in descending order.
fn lengths(weights: &[u64]) -> [u32; TREE_DEPTH] {
    let mut counts = [0; TREE_DEPTH];
    let leaves = weights.len();
    if leaves == 1 {
        counts[1] = 1;
        return counts;
    }
    // leaves by rising weight, then inner nodes in the order of their creation, whose weights rise,
    // too
    let mut nodes: Vec<u64> = weights.iter().rev().copied().collect();
    let mut parents = vec![0; 2 * leaves - 1];
    let (mut leaf, mut inner) = (0, leaves);
    while nodes.len() < 2 * leaves - 1 {
        let mut weight = 0;
        for _ in 0..2 {
            let takes_leaf = leaf < leaves && (inner >= nodes.len() || nodes[leaf] <= nodes[inner]);
            let lightest = if takes_leaf { &mut leaf } else { &mut inner };
            weight += nodes[*lightest];
            parents[*lightest] = nodes.len();
            *lightest += 1;
        }
        nodes.push(weight);
    }
    let mut depths = vec![0; nodes.len()];
    for node in (0..nodes.len() - 1).rev() {
        depths[node] = depths[parents[node]] + 1;
        if node < leaves {
            counts[depths[node]] += 1;
        }
    }
    counts
}

/// Shorten codes that are too long (T.81, K.2), and remove the code of all ones.
fn limited(mut counts: [u32; TREE_DEPTH]) -> [u8; LONGEST] {
    for length in (LONGEST + 1..TREE_DEPTH).rev() {
        while counts[length] > 0 {
            let mut shorter = length - 2;
            while counts[shorter] == 0 {
                shorter -= 1;
            }
            counts[length] -= 2;
            counts[length - 1] += 1;
            counts[shorter + 1] += 2;
            counts[shorter] -= 1;
        }
    }
    let longest = (1..=LONGEST).rev().find(|length| counts[*length] > 0);
    counts[longest.expect("there is a code at least for the symbol that nobody may have")] -= 1;
    std::array::from_fn(|index| counts[index + 1] as u8)
}

const LONGEST: usize = 16;

/// More than the depth of a tree of 2^32 symbols: each level weighs at least as much as the two
/// below.
const TREE_DEPTH: usize = 64;
