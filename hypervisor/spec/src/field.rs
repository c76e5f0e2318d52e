//! A bit field, named by the manual's absolute bit numbers.
//!
//! Fields are constants: inlined, an access is two or three instructions, and smaller than the
//! call would be.

/// Bits `[high:low]` of a structure of 64-bit words, counted from bit 0 of word 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    word: usize,
    shift: u32,
    width: u32,
}

impl Field {
    /// The field at bits `[high:low]`, both inclusive and inside one 64-bit word.
    pub const fn bits(high: u32, low: u32) -> Self {
        assert!(high >= low && high / 64 == low / 64, "a field lies in one word");
        Self { word: (low / 64) as usize, shift: low % 64, width: high - low + 1 }
    }

    /// The one-bit field at `bit`.
    pub const fn bit(bit: u32) -> Self {
        Self::bits(bit, bit)
    }

    /// The index of the word that holds the field.
    #[inline(always)]
    pub const fn word(self) -> usize {
        self.word
    }

    /// The field's bits inside its word.
    #[inline(always)]
    pub const fn mask(self) -> u64 {
        self.max() << self.shift
    }

    /// The largest value the field holds.
    #[inline(always)]
    pub const fn max(self) -> u64 {
        u64::MAX >> (64 - self.width)
    }

    /// The field's value in `words`; 0 where `words` is too short.
    #[inline(always)]
    pub fn get(self, words: &[u64]) -> u64 {
        (words.get(self.word).copied().unwrap_or(0) >> self.shift) & self.max()
    }

    /// Puts `value`, cut to the field's width, into `words`.
    #[inline(always)]
    pub fn set(self, words: &mut [u64], value: u64) {
        if let Some(word) = words.get_mut(self.word) {
            *word = (*word & !self.mask()) | ((value << self.shift) & self.mask());
        }
    }

    /// Puts those bits of `address` that the field covers, unshifted, into `words`.
    ///
    /// For pointer fields: the bits below and above the field are implied zero.
    #[inline(always)]
    pub fn set_address(self, words: &mut [u64], address: u64) {
        if let Some(word) = words.get_mut(self.word) {
            *word = (*word & !self.mask()) | (address & self.mask());
        }
    }

    /// The address a pointer field holds.
    #[inline(always)]
    pub fn get_address(self, words: &[u64]) -> u64 {
        words.get(self.word).copied().unwrap_or(0) & self.mask()
    }
}
