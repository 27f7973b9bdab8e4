//! Hashes that every process computes alike.

/// The hash of some bytes: what [`CallOptions::key`](crate::CallOptions::key) takes. FNV-1a, by
/// Fowler, Noll and Vo, with the finalizer of splitmix64: the same in every process and version.
pub fn of(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
    mix(bytes.iter().fold(OFFSET, fold))
}

/// The finalizer of splitmix64, by Steele, Lea and Flood: every bit in changes every bit out.
pub(crate) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures stay what they are: processes of different versions share a ring.
    #[test]
    fn hashes_never_change() {
        assert_eq!(of(b""), mix(0xcbf2_9ce4_8422_2325));
        assert_eq!(of(b"a"), mix(0xaf63_dc4c_8601_ec8c));
        assert_eq!(mix(1), 0x5692_161d_100b_05e5);
    }
}
