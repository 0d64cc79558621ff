//! Changed inputs, by a seed.

use std::collections::HashSet;

pub struct Mutator {
    state: u64,
    /// What is changed: the inputs to begin with, and what led to something new.
    pool: Vec<Vec<u8>>,
    given: usize,
    words: &'static [&'static str],
    seen: HashSet<String>,
}

/// Bytes of an input; a few are larger.
const SIZE: usize = 64 << 10;
const LARGE: usize = 8 << 20;
/// Inputs that the pool has at most.
const POOL: usize = 4096;

const NUMBERS: [&str; 16] = [
    "0",
    "-1",
    "1",
    "255",
    "65536",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "1e308",
    "1e999",
    "-0.0",
    "1e-320",
];

impl Mutator {
    pub fn new(seed: u64, pool: Vec<Vec<u8>>, words: &'static [&'static str]) -> Mutator {
        let given = pool.len();
        // A seed of 0 would stay 0.
        Mutator { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, pool, given, words, seen: HashSet::new() }
    }

    /// The inputs to begin with, unchanged.
    pub fn bases(&self) -> Vec<Vec<u8>> {
        self.pool[..self.given].to_vec()
    }

    pub fn next(&mut self) -> Vec<u8> {
        let base = self.below(self.pool.len());
        let mut input = self.pool[base].clone();
        for _ in 0..=self.below(4) {
            self.change(&mut input);
        }
        let limit = if self.below(200) == 0 { LARGE } else { SIZE.max(self.pool[base].len() * 2) };
        input.truncate(limit);
        input
    }

    /// What led to something new is worth changing further.
    pub fn learn(&mut self, result: &str, input: Vec<u8>) {
        if self.seen.insert(result.to_owned()) && self.pool.len() < POOL {
            self.pool.push(input);
        }
    }

    /// Different results so far.
    pub fn results(&self) -> usize {
        self.seen.len()
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let to = at + self.below((input.len() - at).min(64) + 1);
        match self.below(11) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = [0, 0x7f, 0x80, 0xff, b'"', b'\\', b'{', b'\n'][self.below(8)],
            2 => drop(input.drain(at..to)),
            3 => {
                let random: Vec<u8> = (0..self.below(16)).map(|_| self.random() as u8).collect();
                drop(input.splice(at..at, random));
            }
            4 => {
                let part = input[at..to].to_vec();
                drop(input.splice(at..at, part));
            }
            // The same again and again: depth, length, many of one kind.
            5 => {
                let part = if to > at { input[at..to].to_vec() } else { b"[".to_vec() };
                let most = if self.below(50) == 0 { 20 } else { 10 };
                let times = (1usize << self.below(most)).min(LARGE / part.len());
                drop(input.splice(at..at, part.repeat(times)));
            }
            6 => {
                let other = self.below(self.pool.len());
                let from = self.below(self.pool[other].len() + 1);
                let part = self.pool[other][from..].to_vec();
                input.truncate(at);
                input.extend(part);
            }
            7 => self.change_number(input),
            8 => input.truncate(at),
            9 => {
                let eight = [u64::MAX, 0, 1 << 31, 1 << 63, 100_000_001, 8][self.below(6)].to_le_bytes();
                let end = (at + 8).min(input.len());
                input[at..end].copy_from_slice(&eight[..end - at]);
            }
            _ => {
                let word = self.words[self.below(self.words.len())].as_bytes().to_vec();
                let end = if self.below(2) == 0 { at } else { to };
                drop(input.splice(at..end, word));
            }
        }
    }

    fn change_number(&mut self, input: &mut Vec<u8>) {
        let digits: Vec<usize> = (0..input.len()).filter(|at| input[*at].is_ascii_digit()).take(10_000).collect();
        if digits.is_empty() {
            return;
        }
        let at = digits[self.below(digits.len())];
        let part = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'e');
        let start = input[..at].iter().rposition(|byte| !part(byte)).map_or(0, |before| before + 1);
        let end = input[at..].iter().position(|byte| !part(byte)).map_or(input.len(), |length| at + length);
        let number = NUMBERS[self.below(NUMBERS.len())].bytes();
        drop(input.splice(start..end, number));
    }

    fn below(&mut self, limit: usize) -> usize {
        if limit == 0 { 0 } else { (self.random() % limit as u64) as usize }
    }

    /// xorshift64*.
    fn random(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_inputs_and_all_are_bounded() {
        let inputs = |seed| {
            let mut mutator = Mutator::new(seed, vec![b"{\"a\": 12}".to_vec(), Vec::new()], &["null", "1e999"]);
            let inputs: Vec<_> = (0..2000).map(|_| mutator.next()).collect();
            assert!(inputs.iter().all(|input| input.len() <= LARGE));
            inputs
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
    }
}
