//! A payload with many fields: forty groups of five types, the same struct for every contender.
//!
//! One list of names and numbers makes the struct with its encodings, so that each engine encodes
//! the very same fields: serde's for micro and tarpc, prost's for tonic. There is no text among them:
//! what fields cost is to be seen, and not what allocating costs; and the compiler takes minutes for
//! what it has to drop when reading fails in the middle.

use serde::{Deserialize, Serialize};

/// Hands the list to another macro.
macro_rules! with_fields {
    ($then:ident) => {
        $then! {
            number_0 1, offset_0 2, share_0 3, flag_0 4, code_0 5;
            number_1 6, offset_1 7, share_1 8, flag_1 9, code_1 10;
            number_2 11, offset_2 12, share_2 13, flag_2 14, code_2 15;
            number_3 16, offset_3 17, share_3 18, flag_3 19, code_3 20;
            number_4 21, offset_4 22, share_4 23, flag_4 24, code_4 25;
            number_5 26, offset_5 27, share_5 28, flag_5 29, code_5 30;
            number_6 31, offset_6 32, share_6 33, flag_6 34, code_6 35;
            number_7 36, offset_7 37, share_7 38, flag_7 39, code_7 40;
            number_8 41, offset_8 42, share_8 43, flag_8 44, code_8 45;
            number_9 46, offset_9 47, share_9 48, flag_9 49, code_9 50;
            number_10 51, offset_10 52, share_10 53, flag_10 54, code_10 55;
            number_11 56, offset_11 57, share_11 58, flag_11 59, code_11 60;
            number_12 61, offset_12 62, share_12 63, flag_12 64, code_12 65;
            number_13 66, offset_13 67, share_13 68, flag_13 69, code_13 70;
            number_14 71, offset_14 72, share_14 73, flag_14 74, code_14 75;
            number_15 76, offset_15 77, share_15 78, flag_15 79, code_15 80;
            number_16 81, offset_16 82, share_16 83, flag_16 84, code_16 85;
            number_17 86, offset_17 87, share_17 88, flag_17 89, code_17 90;
            number_18 91, offset_18 92, share_18 93, flag_18 94, code_18 95;
            number_19 96, offset_19 97, share_19 98, flag_19 99, code_19 100;
            number_20 101, offset_20 102, share_20 103, flag_20 104, code_20 105;
            number_21 106, offset_21 107, share_21 108, flag_21 109, code_21 110;
            number_22 111, offset_22 112, share_22 113, flag_22 114, code_22 115;
            number_23 116, offset_23 117, share_23 118, flag_23 119, code_23 120;
            number_24 121, offset_24 122, share_24 123, flag_24 124, code_24 125;
            number_25 126, offset_25 127, share_25 128, flag_25 129, code_25 130;
            number_26 131, offset_26 132, share_26 133, flag_26 134, code_26 135;
            number_27 136, offset_27 137, share_27 138, flag_27 139, code_27 140;
            number_28 141, offset_28 142, share_28 143, flag_28 144, code_28 145;
            number_29 146, offset_29 147, share_29 148, flag_29 149, code_29 150;
            number_30 151, offset_30 152, share_30 153, flag_30 154, code_30 155;
            number_31 156, offset_31 157, share_31 158, flag_31 159, code_31 160;
            number_32 161, offset_32 162, share_32 163, flag_32 164, code_32 165;
            number_33 166, offset_33 167, share_33 168, flag_33 169, code_33 170;
            number_34 171, offset_34 172, share_34 173, flag_34 174, code_34 175;
            number_35 176, offset_35 177, share_35 178, flag_35 179, code_35 180;
            number_36 181, offset_36 182, share_36 183, flag_36 184, code_36 185;
            number_37 186, offset_37 187, share_37 188, flag_37 189, code_37 190;
            number_38 191, offset_38 192, share_38 193, flag_38 194, code_38 195;
            number_39 196, offset_39 197, share_39 198, flag_39 199, code_39 200;
        }
    };
}
#[cfg(feature = "volo")]
pub(super) use with_fields;

macro_rules! wide {
    ($($number:ident $n:tt, $offset:ident $o:tt, $share:ident $s:tt, $flag:ident $f:tt, $code:ident $c:tt;)*) => {
        /// Two hundred fields.
        #[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
        pub struct Wide {
            $(
                #[prost(uint64, tag = $n)]
                pub(crate) $number: u64,
                #[prost(sint64, tag = $o)]
                pub(crate) $offset: i64,
                #[prost(double, tag = $s)]
                pub(crate) $share: f64,
                #[prost(bool, tag = $f)]
                pub(crate) $flag: bool,
                #[prost(uint32, tag = $c)]
                pub(crate) $code: u32,
            )*
        }

        impl Wide {
            /// One whose fields all differ from their defaults, which some encodings leave out.
            #[must_use]
            pub fn example() -> Self {
                Self {
                    $(
                        $number: 1_000 * $n,
                        $offset: -1_000 * $o,
                        $share: 0.125 * f64::from($s),
                        $flag: true,
                        $code: 1_000_000 * $c,
                    )*
                }
            }
        }
    };
}

with_fields!(wide);

/// How many bytes stand for [`Wide::example`] where there are no types: about what it encodes to.
pub(crate) const WIDE_BYTES: usize = 1_200;

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    /// The bytes that stand for it are as many as its encoding has, within a fifth.
    #[test]
    fn bytes_that_stand_for_it() {
        let encoded = Wide::example().encoded_len();
        assert!(encoded.abs_diff(WIDE_BYTES) < WIDE_BYTES / 5, "{encoded}");
    }
}
